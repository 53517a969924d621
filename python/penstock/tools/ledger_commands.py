"""The command line of `penstock ledger`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from penstock.tools.commands import EXIT_FOUND, EXIT_OK, AddSettingFlags

if TYPE_CHECKING:
    from penstock.config import Settings


def add_ledger_command(commands: Any, add_setting_flags: AddSettingFlags) -> None:  # noqa: ANN401 - argparse names no type for it
    """Add `ledger` to the commands of the program."""
    parser = commands.add_parser(
        "ledger", help="what became of every event that was received", allow_abbrev=False
    )
    parser.add_argument(
        "--recount",
        action="store_true",
        help="count the rows of the tables too; exit code 1 if they differ",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_setting_flags(parser, ("data_dir",))


def run_ledger(options: argparse.Namespace, settings: Settings) -> int:
    """Run the command and give its exit code."""
    import duckdb  # noqa: PLC0415 - slow to import

    from penstock.errors import PenstockError  # noqa: PLC0415 - as above
    from penstock.tools.ledger import ledger  # noqa: PLC0415 - as above

    try:
        same = ledger(settings, sys.stdout, recount=options.recount, as_json=options.json)
    except duckdb.Error as error:
        raise PenstockError("table_unreadable", f"a table can't be counted: {error}") from error
    return EXIT_OK if same else EXIT_FOUND
