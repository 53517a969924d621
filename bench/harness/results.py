"""Medians, spread, the result files, and the section of `bench/README.md`."""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.measure import Row
from harness.scenario import Scenario
from harness.server import PENSTOCK, ROOT

RESULTS = ROOT / "bench" / "results"
README = ROOT / "bench" / "README.md"
# Kinds whose rows are comparable, and stand in one table.
_LOADS = {"burst", "sustained"}
BEGIN = "<!-- results: begin (written by bench/run.py) -->"
END = "<!-- results: end -->"


def machine() -> dict[str, str]:
    """What the numbers depend on besides the code."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    disk = subprocess.run(
        [shutil.which("findmnt") or "findmnt", "-n", "-o", "SOURCE,FSTYPE", "-T", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    version = subprocess.run(
        [str(PENSTOCK), "--version"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": f"{os.cpu_count()} x {cpu[1].strip() if cpu else platform.machine()}",
        "memory": f"{int(memory[1]) / 1e6:.0f} GB" if memory else "unknown",
        "disk": " ".join(disk.stdout.split()) or "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "penstock": " ".join(version.stdout.split()),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def summary(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Median, smallest and largest value of each number."""
    return {
        key: {
            "median": statistics.median(row[key] for row in rows),
            "min": min(row[key] for row in rows),
            "max": max(row[key] for row in rows),
        }
        for key in rows[0]
    }


def say(scenario: Scenario, rows: list[Row]) -> None:
    """Print what a scenario measured, with spread and goals."""
    numbers = summary(rows)
    print(f"{scenario.name}: {scenario.question} ({len(rows)} runs)")
    for key, value in numbers.items():
        goal = scenario.goal.get(key)
        beside = f"   goal {goal:,.0f}" if goal is not None else ""
        print(
            f"  {key:24} {value['median']:>14,.2f}   ({value['min']:,.2f} to {value['max']:,.2f})"
            f"{beside}"
        )


def save(scenario: Scenario, rows: list[Row]) -> None:
    """Write `bench/results/<scenario>.json`."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "scenario": scenario.name,
        "kind": scenario.kind,
        "question": scenario.question,
        "machine": machine(),
        "settings": scenario.environment,
        "goal": scenario.goal,
        "runs": rows,
        "summary": summary(rows),
    }
    path = RESULTS / f"{scenario.name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_readme() -> None:
    """Make the results section of `bench/README.md` from all result files."""
    text = README.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    README.write_text(text[:begin] + "\n\n" + _section() + "\n" + text[end:])


def _section() -> str:
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    results = [result for result in results if "scenario" in result]
    if not results:
        return "No results yet: run `make bench`.\n"
    lines = []
    machines = {json.dumps(result["machine"], sort_keys=True) for result in results}
    for text in sorted(machines):
        lines += [", ".join(f"{key} {value}" for key, value in json.loads(text).items()) + ".", ""]
    lines += [
        "Command: `make bench` (`bench/run.py`). Server on core 0, load on core 1. Median",
        "(smallest to largest) of the runs; CPU s = CPU seconds of the server, all threads.",
        "",
        "| scenario | runs | events/s | events per CPU s | requests/s | p50 / p99 / p999 ms |"
        " stored per CPU s, whole life | peak RSS MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(result) for result in results if result.get("kind", "burst") in _LOADS]
    for result in results:
        if result.get("kind", "burst") not in _LOADS:
            lines += _all_numbers(result)
    lines += ["", *_goals(results)]
    ratio = _ratio(results)
    if ratio:
        lines += ["", ratio]
    settings = {json.dumps(result["settings"], sort_keys=True) for result in results}
    lines += [
        "",
        "Settings used besides the defaults: " + ", ".join(sorted(_settings(settings))) + ".",
    ]
    return "\n".join(lines) + "\n"


def _line(result: dict[str, Any]) -> str:
    numbers = result["summary"]

    def cell(key: str) -> str:
        value = numbers[key]
        if value["min"] == value["max"]:
            return f"{value['median']:,.0f}"
        return f"{value['median']:,.0f} ({value['min']:,.0f} to {value['max']:,.0f})"

    latency = " / ".join(f"{numbers[key]['median']:.1f}" for key in ("p50_ms", "p99_ms", "p999_ms"))
    cells = [
        f"`{result['scenario']}`", str(len(result["runs"])), cell("events_per_second"),
        cell("events_per_cpu_second"), cell("requests_per_second"), latency,
        cell("stored_per_cpu_second"), cell("max_rss_mb"),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _is_cost(key: str) -> bool:
    """Whether less is better."""
    return not key.endswith("_per_second") and key.endswith(("_mb", "_ms", "_seconds"))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}".rstrip("0").rstrip(".")


def _all_numbers(result: dict[str, Any]) -> list[str]:
    """Every number of a scenario that is no row of the common table."""
    lines = [
        "",
        f"`{result['scenario']}`: {result['question']} ({len(result['runs'])} runs)",
        "",
        "| number | median | smallest to largest |",
        "|---|---|---|",
    ]
    for key, value in result["summary"].items():
        spread = f"{_number(value['min'])} to {_number(value['max'])}"
        lines.append(f"| {key} | {_number(value['median'])} | {spread} |")
    return lines


def _goals(results: list[dict[str, Any]]) -> list[str]:
    lines = ["| goal | wanted | measured | reached |", "|---|---|---|---|"]
    for result in results:
        for key, wanted in result["goal"].items():
            measured = result["summary"][key]["median"]
            at_most = _is_cost(key)
            reached = measured <= wanted if at_most else measured >= wanted
            sign = "≤" if at_most else "≥"
            told = f"{sign} {_number(wanted)} | {_number(measured)}"
            lines.append(
                f"| `{result['scenario']}` {key} | {told} | {'yes' if reached else 'no'} |"
            )
    return lines


def _ratio(results: list[dict[str, Any]]) -> str | None:
    by_name = {result["scenario"]: result["summary"] for result in results}
    if not {"http_50", "peer_fsync_50"} <= by_name.keys():
        return None
    own = by_name["http_50"]["events_per_cpu_second"]["median"]
    peer = by_name["peer_fsync_50"]["events_per_cpu_second"]["median"]
    return (
        f"Events per CPU second at 50 a request: {own / peer:.1f} times FastAPI + orjson + "
        "one fsync a request (goal: 5)."
    )


def _settings(texts: set[str]) -> set[str]:
    return {f"`{name}={value}`" for text in texts for name, value in json.loads(text).items()} | {
        "`PENSTOCK_DRAIN_TIMEOUT_SECONDS=540`"
    }
