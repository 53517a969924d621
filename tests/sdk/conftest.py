"""Writes what passed into `conformance.json`: `make conformance` (see `support/conformance.py`)."""

import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from support.conformance import RESULTS, committed, locked_version

OPTION = "--write-conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="write what passed into conformance.json")


def pytest_configure(config: pytest.Config) -> None:
    # Without the option, and where pytest reads this file too late to know it, nothing is written.
    if config.getoption(OPTION, default=False):
        config.pluginmanager.register(Results())


class Results:
    """Outcomes of the tests that are marked `conformance` or `replayed`."""

    def __init__(self) -> None:
        self.marks: dict[str, tuple[str, str, str]] = {}
        self.not_passed: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.passed: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.told: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for kind in ("conformance", "replayed"):
                mark = item.get_closest_marker(kind)
                if mark is not None:
                    name = getattr(item, "originalname", item.name)
                    self.marks[item.nodeid] = (kind, mark.args[0], name)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self.marks:
            return
        kind, sdk, name = self.marks[report.nodeid]
        if report.outcome != "passed":
            self.not_passed[kind, sdk].append(report.nodeid)
        elif report.when == "call":
            self.passed[kind, sdk][name] += 1

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus != 0:
            self.told.append("nothing written: not all passed")
            return
        results = committed() if RESULTS.exists() else {"run": {}, "replayed": {}}
        for (kind, sdk), names in sorted(self.passed.items()):
            if kind == "replayed":
                results["replayed"][sdk] = names.total()
            elif not self.not_passed[kind, sdk]:
                version = locked_version(sdk)
                results["run"][sdk] = {"version": version, "tests": sorted(names)}
        kept = sorted({sdk for (_, sdk), nodes in self.not_passed.items() if nodes})
        self.told += [f"{sdk}: skipped, so its last result stays" for sdk in kept]
        self.told.append(f"written: {RESULTS}")
        RESULTS.write_text(_text(results), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("conformance")
        for line in self.told:
            terminalreporter.write_line(line)


def _text(results: dict[str, Any]) -> str:
    return json.dumps(results, indent=2, sort_keys=True) + "\n"
