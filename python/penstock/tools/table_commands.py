"""The command line of `penstock table`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Final

from penstock.tools.commands import EXIT_FOUND, EXIT_OK, AddSettingFlags

if TYPE_CHECKING:
    from penstock.config import Settings

BELIEFS: Final = {
    "transactions": "commit from the log what the table's own transactions don't name",
    "rows": "take all up to the last row of each lane as committed",
    "note": "take all as committed that was once, and bring nothing back",
}


def add_table_command(commands: Any, add_setting_flags: AddSettingFlags) -> None:  # noqa: ANN401 - argparse names no type for it
    """Add `table` and its actions to the commands of the program."""
    table = commands.add_parser(
        "table", help="look at the tables and decide about them", allow_abbrev=False
    )
    actions = table.add_subparsers(dest="action", metavar="action", required=True)

    info = actions.add_parser(
        "info",
        help="tables beside log and note; exit code 1 if one is not as it was left",
        allow_abbrev=False,
    )
    info.add_argument("--json", action="store_true", help="one JSON object")
    add_setting_flags(info, ("data_dir",))

    adopt = actions.add_parser(
        "adopt",
        help="accept a table that went back or was replaced; without --believe, tell what would be",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="What to believe about a table that is not as it was left:\n"
        + "".join(f"  {name:13} {what}\n" for name, what in BELIEFS.items()),
    )
    adopt.add_argument("tables", nargs="*", metavar="TABLE", help="default: all that changed")
    adopt.add_argument(
        "--believe", choices=BELIEFS, help="carry it out; the server must be stopped"
    )
    add_setting_flags(adopt, ("data_dir",))


def run_table(options: argparse.Namespace, settings: Settings) -> int:
    """Run one action and give its exit code."""
    data_dir = settings.data_dir
    if options.action == "info":
        from penstock.tools.table_info import info  # noqa: PLC0415 - one tool, one import

        as_left = info(data_dir, sys.stdout, as_json=options.json)
        return EXIT_OK if as_left else EXIT_FOUND
    from penstock.tools.table_adopt import adopt_tables, show_choices  # noqa: PLC0415 - as above

    if options.believe is None:
        as_left = show_choices(data_dir, options.tables, sys.stdout)
        return EXIT_OK if as_left else EXIT_FOUND
    adopt_tables(data_dir, options.tables, options.believe, sys.stdout)
    return EXIT_OK
