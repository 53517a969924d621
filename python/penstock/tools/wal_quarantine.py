"""`penstock wal quarantine`: records that could not be stored, listed and sent again.

What was sent is moved to a folder `done` beside the others, never deleted. The server that took a
record still knows its ids for a while, counts its events as duplicates then, and stores nothing. So
if the service turns out to be that server, its log is asked what it made of the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from penstock.cli_output import write_rows
from penstock.errors import DataDirectoryError, PenstockError
from penstock.tools.directories import sync_directory
from penstock.tools.importing import ImportTarget
from penstock.tools.log_view import RecordLike, core_errors, count_text, time_text
from penstock.tools.sending import Sender, SendError
from penstock.tools.witness import LogWitness, Witness

if TYPE_CHECKING:
    from penstock.config import Settings

DONE: Final = "done"

# Ids in one query. A record has up to 50,000 events.
MAX_ASKED_IDS: Final = 5_000

COLUMNS: Final = (
    "position",
    "lane",
    "why",
    "payload_bytes",
    "set_aside_at",
    "received_at",
    "endpoint",
    "project",
    "token",
    "accepted",
    "problem",
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One file of the quarantine.

    Attributes:
        path: The file.
        record: What it holds.
        why: Why the record was set aside; empty: unknown.
        set_aside_at_us: When, microseconds since 1970; 0: unknown.
    """

    path: Path
    record: RecordLike
    why: str
    set_aside_at_us: int


def read_quarantine(data_dir: Path, errors: TextIO) -> Iterator[Quarantined]:
    """Read the files of a quarantine, one at a time, by lane and position.

    What can't be read is told to `errors`.

    Raises:
        DataDirectoryError: There is no data directory.
    """
    from penstock import _core  # noqa: PLC0415 - the command line is read without the core

    if not (data_dir / "format.json").exists():
        raise DataDirectoryError(
            "data_directory_unusable", f"no data directory at {data_dir}: no format.json there"
        )
    for path in sorted(_folder(data_dir).glob("*.record")):
        try:
            with core_errors():
                record, why, set_aside_at_us = _core.read_quarantined(str(path))
        except PenstockError as error:
            errors.write(f"warning: {error}\n")
            continue
        yield Quarantined(path, record, why, set_aside_at_us)


def _folder(data_dir: Path) -> Path:
    return data_dir / "wal" / "quarantine"


def list_quarantine(data_dir: Path, output: TextIO, errors: TextIO, *, as_json: bool) -> None:
    """Write what is in quarantine; payloads are not shown (SEC-2)."""
    rows = (_row(item) for item in read_quarantine(data_dir, errors))
    write_rows(output, COLUMNS, rows, "json" if as_json else "table")
    output.flush()


def _row(item: Quarantined) -> tuple[object, ...]:
    record = item.record
    return (
        record.position,
        record.lane,
        item.why or None,
        record.payload_bytes,
        time_text(item.set_aside_at_us) if item.set_aside_at_us else None,
        time_text(record.received_at_us) if record.endpoint else None,
        record.endpoint,
        record.project,
        record.token,
        record.accepted,
        record.problem,
    )


def retry(
    data_dir: Path,
    url: str,
    output: TextIO,
    errors: TextIO,
    *,
    sender: Sender | None = None,
    witness: Witness | None = None,
) -> bool:
    """Send what is in quarantine to the service at `url`, and move what it stored to `done`.

    Args:
        data_dir: Whose quarantine.
        url: The service.
        output: Told what was done.
        errors: Told what was kept, and why.
        sender: Instead of one of our own.
        witness: Likewise.

    Returns:
        Whether nothing was kept.

    Raises:
        DataDirectoryError: There is no data directory.
        PenstockError: The service is out of reach, or refuses everything; what was stored before is
            moved already.
    """
    sender = sender or Sender(url)
    witness = witness or LogWitness(data_dir)
    done = kept = 0
    for item in read_quarantine(data_dir, errors):
        position = item.record.position
        try:
            sender.send(item.record)
            reason = _known_still(item.record, witness(sender.sent_body))
        except SendError as error:
            if not error.of_record:
                raise
            reason = str(error)
        if reason is not None:
            errors.write(f"kept: position {position}: {reason}\n")
            kept += 1
            continue
        output.write(f"stored: position {position}; now {move_to_done(item.path)}\n")
        done += 1
    sender.close()
    output.write(f"{count_text(done, 'record')} brought back, {kept} kept\n")
    output.flush()
    return kept == 0


def retry_offline(
    data_dir: Path, target: Path, settings: Settings, output: TextIO, errors: TextIO
) -> bool:
    """Take what is in quarantine into a data directory whose server is stopped; likewise `done`.

    Ids in the window don't count: they are the record's own if the directory is. Tables and log are
    asked which of its events are stored; the others are. So it may be done again at any time.

    Returns:
        Whether nothing was kept.

    Raises:
        DataDirectoryError: There is none, or its server runs.
        PenstockError: The directory takes nothing more; what was stored before is moved already.
    """
    items = list(read_quarantine(data_dir, errors))
    done = kept = 0
    with ImportTarget(target, settings) as opened:
        opened.look_at_whole_log()
        for item in items:
            record = item.record
            try:
                told = _take(opened, record)
            except PenstockError as error:
                if error.code != "record_unreadable":
                    raise
                errors.write(f"kept: position {record.position}: {error}\n")
                kept += 1
                continue
            moved = move_to_done(item.path)
            output.write(f"{told}: position {record.position}; now {moved}\n")
            done += 1
        opened.finish()
    again = {item.path for item in read_quarantine(target, errors)} - {item.path for item in items}
    for path in sorted(again):
        errors.write(f"set aside again: {path}\n")
    output.write(f"{count_text(done, 'record')} brought back, {kept + len(again)} kept\n")
    output.flush()
    return kept == 0 and not again


def _take(target: ImportTarget, record: RecordLike) -> str:
    with core_errors():
        events = record.accepted_events()
    if target.has(record):
        return "in the log already"
    stored = stored_events(target.data_dir, events)
    if events and len(stored) == len(events):
        return "stored already"
    answer = target.take_one(record, stored, believe_window=False)
    return f"stored {count_text(answer.accepted, 'event')}"


def stored_events(data_dir: Path, events: Sequence[tuple[int, str, str, str]]) -> list[int]:
    """Tell which of (index, uuid, event, distinct_id) are in the table or in the log.

    Cost: a query for each `MAX_ASKED_IDS` of them.
    """
    from penstock.table.query import run_query  # noqa: PLC0415 - slow to import

    found: set[tuple[object, ...]] = set()
    for start in range(0, len(events), MAX_ASKED_IDS):
        # Ids are written by the core: 36 characters that SQL takes as they are.
        ids = ", ".join(f"'{one[1]}'" for one in events[start : start + MAX_ASKED_IDS])
        sql = " UNION ALL ".join(
            f"SELECT uuid, event, distinct_id FROM {table} WHERE uuid IN ({ids})"  # noqa: S608 - as above
            for table in ("events", "recordings")
        )
        found.update(run_query(data_dir, sql).rows)
    return [index for index, *key in events if tuple(key) in found]


def _known_still(record: RecordLike, accepted: int | None) -> str | None:
    if accepted is None or accepted >= record.accepted:
        return None
    missing = record.accepted - accepted
    told = (
        f"{missing} of {count_text(record.accepted, 'event')} counted as duplicates, since this "
        "server took the record and still has its ids in the deduplication window; wait, or run it "
        "with dedup_window_seconds = 0 for the retry"
    )
    return (
        f"{told}. The other {accepted} are stored now, and would be once more" if accepted else told
    )


def move_to_done(path: Path) -> Path:
    """Move a file into the folder `done` beside it; nothing there is replaced.

    Durability: on return the new name survives a power cut.
    """
    folder = path.parent / DONE
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    number = 0
    while target.exists():
        number += 1
        target = folder / f"{path.name}.{number}"
    path.rename(target)
    # The new name before the old one's end: a power cut in between leaves two names, not none.
    sync_directory(folder)
    sync_directory(path.parent)
    return target
