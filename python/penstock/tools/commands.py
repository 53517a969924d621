"""The command line of `penstock wal`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from penstock.tools.log_view import FIRST_POSITION, LAST_POSITION

if TYPE_CHECKING:
    from penstock.config import Settings

EXIT_OK: Final = 0
EXIT_FOUND: Final = 1
"""Something is damaged or not as it should be, or was not sent."""

AddSettingFlags = Callable[[argparse.ArgumentParser, Sequence[str]], None]


def add_wal_command(commands: Any, add_setting_flags: AddSettingFlags) -> None:  # noqa: ANN401 - argparse names no type for it
    """Add `wal` and its actions to the commands of the program."""
    wal = commands.add_parser("wal", help="look into the log and repair it", allow_abbrev=False)
    actions = wal.add_subparsers(dest="action", metavar="action", required=True)

    fsck = actions.add_parser(
        "fsck", help="check every file; exit code 1 if one is damaged", allow_abbrev=False
    )
    fsck.add_argument(
        "--repair",
        action="store_true",
        help="keep damage aside, as the next start would; the server must be stopped",
    )
    fsck.add_argument("--json", action="store_true", help="one JSON object")
    add_setting_flags(fsck, ("data_dir",))

    cat = actions.add_parser("cat", help="one line a record, without payload", allow_abbrev=False)
    _add_range(cat)
    cat.add_argument(
        "--payload",
        metavar="P",
        type=_position,
        help="write the decoded body of the record at this position instead: client data",
    )
    cat.add_argument("--json", action="store_true", help="one JSON object a record")
    add_setting_flags(cat, ("data_dir",))

    replay = actions.add_parser(
        "replay",
        help="send the records to a running service, or take them into a data directory",
        allow_abbrev=False,
    )
    add_into(replay)
    _add_range(replay)
    add_setting_flags(replay, ("data_dir",))

    quarantine = actions.add_parser(
        "quarantine", help="records that could not be stored", allow_abbrev=False
    )
    steps = quarantine.add_subparsers(dest="step", metavar="step", required=True)
    listing = steps.add_parser("list", help="list them, without payload", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="a JSON array")
    add_setting_flags(listing, ("data_dir",))
    retry = steps.add_parser(
        "retry", help="send them again, or take them in; move what was stored", allow_abbrev=False
    )
    add_into(retry)
    add_setting_flags(retry, ("data_dir",))


def _add_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", metavar="P", type=_position, default=FIRST_POSITION)
    parser.add_argument("--to", dest="last", metavar="P", type=_position, default=LAST_POSITION)


def add_into(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the service to send to."""
    parser.add_argument(
        "--into",
        metavar="URL|PATH",
        required=True,
        help="a service, as http://127.0.0.1:8000, or a data directory whose server is stopped",
    )


def _position(text: str) -> int:
    if not text.isdecimal() or not FIRST_POSITION <= int(text) <= LAST_POSITION:
        raise argparse.ArgumentTypeError(f"{text!r} is no position: 1, 2, 3 and so on")
    return int(text)


def run_wal(options: argparse.Namespace, settings: Settings) -> int:
    """Run one action and give its exit code."""
    data_dir = settings.data_dir
    output, errors = sys.stdout, sys.stderr
    if options.action == "fsck":
        from penstock.tools.wal_fsck import fsck  # noqa: PLC0415 - one tool, one import

        whole = fsck(data_dir, output, repair=options.repair, as_json=options.json)
        return EXIT_OK if whole else EXIT_FOUND
    if options.action == "cat":
        from penstock.tools.wal_cat import cat, write_payload  # noqa: PLC0415 - as above

        if options.payload is not None:
            write_payload(data_dir, options.payload, output.buffer, errors)
        else:
            first, last = options.first, options.last
            cat(data_dir, output, errors, first=first, last=last, as_json=options.json)
        return EXIT_OK
    if options.action == "replay":
        return EXIT_OK if _replay(options, settings) else EXIT_FOUND
    return _run_quarantine(options, settings)


def _replay(options: argparse.Namespace, settings: Settings) -> bool:
    from penstock.tools.importing import is_url  # noqa: PLC0415 - as above
    from penstock.tools.wal_replay import import_log, replay  # noqa: PLC0415 - as above

    data_dir, into = settings.data_dir, options.into
    output, errors = sys.stdout, sys.stderr
    first, last = options.first, options.last
    if is_url(into):
        return replay(data_dir, into, output, errors, first=first, last=last)
    return import_log(data_dir, Path(into), settings, output, errors, first=first, last=last)


def _run_quarantine(options: argparse.Namespace, settings: Settings) -> int:
    from penstock.tools.importing import is_url  # noqa: PLC0415 - as above
    from penstock.tools.wal_quarantine import (  # noqa: PLC0415 - as above
        list_quarantine,
        retry,
        retry_offline,
    )

    output, errors = sys.stdout, sys.stderr
    if options.step == "list":
        list_quarantine(settings.data_dir, output, errors, as_json=options.json)
        return EXIT_OK
    into = options.into
    if is_url(into):
        none_kept = retry(settings.data_dir, into, output, errors)
    else:
        none_kept = retry_offline(settings.data_dir, Path(into), settings, output, errors)
    return EXIT_OK if none_kept else EXIT_FOUND
