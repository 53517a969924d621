"""The synced note in the log's directory: what the tables had passed when it was written.

JSON: `{"format": 1, "tables": {"events": {"id": …, "version": …, "txns": {lane: position}}},
"complete": {lane: position}}`, in `wal/tables.json`. The core writes and syncs it after each cut,
before it releases a log file, so whatever left the log is in a table that is at least as new as the
note says.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

NOTE_FORMAT = 1

# Lanes kept for each table; one is made by each opening that appends. Only the newest matter: the
# others have long left the log.
MAX_LANES = 64


class TableNote(msgspec.Struct, frozen=True):
    """What one table had passed.

    Attributes:
        id: The table's own id, made at its creation.
        version: Version of the table.
        txns: Lane to the position committed for it.
    """

    id: str
    version: int
    txns: dict[str, int] = {}


class Note(msgspec.Struct, frozen=True):
    """What all tables had passed.

    Attributes:
        tables: Table to what it had passed.
        complete: Lane to the position up to which every table has its rows, with or without a
            transaction that says so: a table without rows in a cut gets none.
        format: Version of this form.
    """

    tables: dict[str, TableNote] = {}
    complete: dict[str, int] = {}
    format: int = NOTE_FORMAT


def encode(note: Note) -> bytes:
    """Write a note."""
    return msgspec.json.encode(note)


def decode(data: bytes | None) -> Note:
    """Read a note; an empty one if there is none.

    Raises:
        ValueError: It is not a note of this format.
    """
    if not data:
        return Note()
    note = msgspec.json.decode(data, type=Note)
    if note.format != NOTE_FORMAT:
        raise ValueError(f"note of format {note.format}")
    return note


def path(data_dir: Path) -> Path:
    """Tell where the core keeps the note (`rust_core/engine/src/directory.rs`)."""
    return data_dir / "wal" / "tables.json"


def read(data_dir: Path) -> bytes | None:
    """Read the note's text, for `decode`; None: none was written yet.

    Raises:
        OSError: It is there and can't be read.
    """
    try:
        return path(data_dir).read_bytes()
    except FileNotFoundError:
        return None


def newest_lanes(txns: dict[str, int]) -> dict[str, int]:
    """Keep the lanes with the highest positions: positions grow from lane to lane (WAL-3)."""
    newest = sorted(txns.items(), key=lambda item: item[1])[-MAX_LANES:]
    return dict(newest)
