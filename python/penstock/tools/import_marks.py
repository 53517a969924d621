"""Which records of other logs were taken into a data directory: `imports.json` in it.

JSON: `{"format": 1, "end": …, "lanes": {lane: [[first, last], …]}, "done": [identity, …]}`. The
records of these ranges of a lane, and those in `done`, are in this directory's log or tables, at
positions up to `end`. What was taken in later is not marked yet.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from penstock.errors import PenstockError
from penstock.tools.directories import sync_directory

MARKS_FILE: Final = "imports.json"
MARKS_FORMAT: Final = 1

# A lane is an opening of some log, and has one range unless somebody chose ranges or it is damaged.
MAX_RANGES: Final = 10_000


class Marks(msgspec.Struct):
    """All of them.

    Attributes:
        lanes: Lane of another log to the ranges of positions that were taken in, oldest first.
        done: Identities of records outside of them.
        end: Last position of this directory's log when this was written.
        format: Version of this form.
    """

    lanes: dict[str, list[tuple[int, int]]] = {}
    done: list[str] = []
    end: int = 0
    format: int = MARKS_FORMAT

    def covers(self, lane: str, position: int) -> bool:
        """Tell whether a record was taken in."""
        return any(first <= position <= last for first, last in self.lanes.get(lane, ()))

    def cover(self, lane: str, position: int) -> None:
        """Count a record in."""
        ranges = self.lanes.setdefault(lane, [])
        if ranges and ranges[-1][0] <= position <= ranges[-1][1] + 1:
            first, last = ranges[-1]
            ranges[-1] = (first, max(last, position))
        elif not self.covers(lane, position):
            ranges.append((position, position))


def read_marks(data_dir: Path) -> Marks | None:
    """Read the marks; None if nothing was ever taken in.

    Raises:
        PenstockError: They can't be read: without them records would be doubled.
    """
    path = data_dir / MARKS_FILE
    try:
        marks = msgspec.json.decode(path.read_bytes(), type=Marks)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise PenstockError("marks_unreadable", f"{path} can't be read: {error}") from error
    if marks.format != MARKS_FORMAT:
        raise PenstockError("marks_unreadable", f"{path} has format {marks.format}")
    return marks


def write_marks(data_dir: Path, marks: Marks) -> None:
    """Replace the marks. Durability: on return they survive a power cut.

    Raises:
        PenstockError: They are too many.
    """
    path = data_dir / MARKS_FILE
    if sum(map(len, marks.lanes.values())) > MAX_RANGES:
        raise PenstockError(
            "too_many_marks", f"{path} has {MAX_RANGES} ranges: take in larger ones"
        )
    partial = path.with_name(f"{MARKS_FILE}.partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(marks))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(data_dir)
