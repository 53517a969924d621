"""The command line of `penstock rejected`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from penstock.errors import ConfigError, PenstockError
from penstock.tools.commands import EXIT_FOUND, EXIT_OK, AddSettingFlags, add_into

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.tools.rejected import EventId, Selection

_READ_SETTINGS: Final = ("data_dir", "query_tail_memory_bytes")

# The service's own limit may be set higher; a text beyond this is no repaired event.
_MAX_EVENT_TEXT_BYTES: Final = 64 << 20

_RETRY: Final = ("rejected retry", "command line")


def add_rejected_command(commands: Any, add_setting_flags: AddSettingFlags) -> None:  # noqa: ANN401 - argparse names no type for it
    """Add `rejected` and its actions to the commands of the program."""
    rejected = commands.add_parser(
        "rejected", help="look at refused events and send them again", allow_abbrev=False
    )
    actions = rejected.add_subparsers(dest="action", metavar="action", required=True)

    listing = actions.add_parser("list", help="the newest, without their text", allow_abbrev=False)
    _add_filters(listing)
    listing.add_argument("--limit", metavar="N", type=_count, help="how many; 50 if not said")
    listing.add_argument("--json", action="store_true", help="a JSON array")
    add_setting_flags(listing, _READ_SETTINGS)

    show = actions.add_parser("show", help="one with its text: client data", allow_abbrev=False)
    show.add_argument("id", metavar="ID", type=_event_id, help="as `list` shows it: 48.0")
    form = show.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--raw", action="store_true", help="the text alone, to be edited")
    add_setting_flags(show, _READ_SETTINGS)

    retry = actions.add_parser(
        "retry", help="send them, repaired, to a running service", allow_abbrev=False
    )
    retry.add_argument("ids", metavar="ID", type=_event_id, nargs="*", help="which; or by filters")
    add_into(retry)
    _add_filters(retry)
    retry.add_argument("--limit", metavar="N", type=_count, help="at most so many, oldest first")
    retry.add_argument(
        "--event", metavar="FILE", help="text to send instead, for one ID; - reads standard input"
    )
    retry.add_argument(
        "--set",
        metavar="NAME=JSON",
        type=_member,
        action="append",
        default=[],
        help="set a member of each event; may be repeated",
    )
    retry.add_argument("--token", metavar="TOKEN", help="send under this project token instead")
    retry.add_argument(
        "--new-uuid", action="store_true", help="replace the events' uuids, always by the same"
    )
    add_setting_flags(retry, _READ_SETTINGS)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", metavar="NAME", help="only of this project")
    parser.add_argument("--reason", metavar="CODE", help="only refused with this code")
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=_since,
        help="only received then or later: 2026-01-31T12:00:00Z, 2026-01-31, 90m, 24h or 7d",
    )


def _event_id(text: str) -> EventId:
    from penstock.tools.rejected import read_id  # noqa: PLC0415 - one tool, one import

    try:
        return read_id(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _since(text: str) -> datetime:
    from penstock.tools.rejected import read_since  # noqa: PLC0415 - as above

    try:
        return read_since(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000000")
    return int(text)


def _member(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    try:
        json.loads(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=JSON, such as distinct_id='\"ada\"'"
        ) from error
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} names no member")
    return name, value


def run_rejected(options: argparse.Namespace, settings: Settings) -> int:
    """Run one action and give its exit code."""
    from penstock.tools.rejected import (  # noqa: PLC0415 - as above
        DEFAULT_LISTED,
        list_rejected,
        query_runner,
        show,
    )

    run = query_runner(settings.data_dir, settings.query_tail_memory_bytes)
    output, errors = sys.stdout, sys.stderr
    if options.action == "list":
        limit = options.limit or DEFAULT_LISTED
        selection = _selection(options)
        list_rejected(run, selection, output, errors, limit=limit, as_json=options.json)
        return EXIT_OK
    if options.action == "show":
        form = "json" if options.json else "raw" if options.raw else "text"
        show(run, options.id, output, errors, form=form)
        return EXIT_OK
    return _retry(options, settings)


def _retry(options: argparse.Namespace, settings: Settings) -> int:
    from penstock.tools.rejected import query_runner  # noqa: PLC0415 - as above
    from penstock.tools.rejected_form import Repair  # noqa: PLC0415 - as above
    from penstock.tools.rejected_retry import MAX_RETRIED, retry  # noqa: PLC0415 - as above
    from penstock.tools.sending import Sender  # noqa: PLC0415 - as above

    if not (options.ids or options.project or options.reason or options.since):
        raise ConfigError(*_RETRY, "name the events, by ID, --project, --reason or --since")
    if options.event is not None and len(options.ids) != 1:
        raise ConfigError(*_RETRY, "--event is the text of one event: name one ID")
    repair = Repair(
        text=None if options.event is None else _text(options.event),
        members=dict(options.set),
        token=options.token,
        new_uuid=options.new_uuid,
    )
    sender = Sender(options.into)
    try:
        all_stored = retry(
            query_runner(settings.data_dir, settings.query_tail_memory_bytes),
            _selection(options),
            repair,
            sender,
            sys.stdout,
            sys.stderr,
            limit=options.limit or MAX_RETRIED,
        )
    finally:
        sender.close()
    return EXIT_OK if all_stored else EXIT_FOUND


def _selection(options: argparse.Namespace) -> Selection:
    from penstock.tools.rejected import Selection  # noqa: PLC0415 - as above

    return Selection(
        ids=tuple(getattr(options, "ids", ())),
        project=options.project,
        reason=options.reason,
        since=options.since,
    )


def _text(path: str) -> bytes:
    try:
        if path == "-":
            text = sys.stdin.buffer.read(_MAX_EVENT_TEXT_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                text = file.read(_MAX_EVENT_TEXT_BYTES + 1)
    except OSError as error:
        raise PenstockError("unreadable_event", f"cannot read {path}: {error.strerror}") from error
    if len(text) > _MAX_EVENT_TEXT_BYTES:
        raise PenstockError("unreadable_event", f"{path} is larger than any event may be")
    return text
