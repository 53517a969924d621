"""Writes the tables of README.md that stand in the code: settings, codes, commands, SDKs.

`make readme` runs it; with `--check` it only says whether README.md is up to date. The columns of
the tables have their meanings in README.md alone, so those rows are compared by tests/tidy instead.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from penstock import _core, config, outcomes

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import conformance  # noqa: E402 - of the tests, which know what passed

README = ROOT / "README.md"


def main() -> int:
    """Write README.md, or check it; 1 if `--check` finds it out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    before = README.read_text(encoding="utf-8")
    after = _replace(before, "| setting |", _settings())
    after = _replace(after, "| code |", _codes())
    after = _replace(after, "| command |", _commands())
    after = _replace(after, "| SDK |", conformance.table())
    if check:
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


def _replace(document: str, head: str, rows: Iterable[tuple[str, ...]]) -> str:
    """Put `rows` below the two lines of the table that begins with `head`."""
    body = "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows)
    pattern = re.compile(rf"(?m)^({re.escape(head)}.*\n\|[-|]+\n)(?:\|.*\n)*")
    replaced, count = pattern.subn(lambda match: match[1] + body, document)
    if count != 1:
        message = f"README.md has {count} tables that begin with {head!r}"
        raise ValueError(message)
    return replaced


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _settings() -> Iterable[tuple[str, ...]]:
    for row in config.listing():
        default = f"`{row.default}`" if row.default else "none"
        yield f"`{row.name}`", default, row.unit, row.reason


def _codes() -> Iterable[tuple[str, ...]]:
    scopes = {"event": "one event", "request": "a request", "overload": "a request"}
    for code, scope, text in _core.codes():
        told = outcomes.outcome_of(code)
        again = "yes" if told.retryable else "no"
        yield f"`{code}`", scopes[scope], str(told.http_status), told.grpc_status, again, text


def _commands() -> Iterable[tuple[str, ...]]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target, does in re.findall(r"(?m)^([a-z-]+):.*## (.+)$", makefile):
        yield f"`make {target}`", does


if __name__ == "__main__":
    sys.exit(main())
