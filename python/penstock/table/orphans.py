"""Files that a crash left behind: written for a cut that was never committed.

Their rows are in the log and come again in other files, so all that they do is take room. What is
removed is known to be just that: a name as the core gives it, its first row in the part of the log
that the table has not passed, and not named by the table. A file that an older version of the table
names, or a tombstone, has rows that the table has passed: its transactions never go back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from penstock.table import segment_names
from penstock.table.crash_points import crash_point

if TYPE_CHECKING:
    from penstock.table.log_table import LogTable


class Swept(NamedTuple):
    """What was removed."""

    files: int
    size_bytes: int


def sweep(table: LogTable, spans: Sequence[tuple[str, int, int]]) -> Swept:
    """Remove the orphans of a table that was just opened, before the core builds anything.

    Cost: lists every partition directory once.

    Args:
        table: Opened, and as it was left.
        spans: (lane, first, last position) in the log.

    Raises:
        OSError: A directory or file could not be reached; some may have been removed.
    """
    unpassed = {
        lane: (max(first, (table.passed(lane) or 0) + 1), last) for lane, first, last in spans
    }
    found = [path for path in _files(table.directory) if _is_in(path.name, unpassed)]
    if not found:
        return Swept(0, 0)
    named = table.file_names()
    files = size_bytes = 0
    for path in found:
        if path.name not in named:
            size_bytes += path.stat().st_size
            path.unlink()
            crash_point("orphan_removed")
            files += 1
    return Swept(files, size_bytes)


def _is_in(name: str, spans: dict[str, tuple[int, int]]) -> bool:
    parsed = segment_names.parse(name)
    if parsed is None or parsed.lane not in spans:
        return False
    first, last = spans[parsed.lane]
    return first <= parsed.first_position <= last


def _files(directory: Path) -> Iterator[Path]:
    """List the files below the partitions; not the log, nor anything else beside them."""
    if not directory.exists():
        # A table that is made with its first row.
        return
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(("_", ".")):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
