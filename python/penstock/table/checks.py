"""Checks of our own before a commit: the library makes none of them, and some wedge a table."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from penstock.table.errors import CommitFailedError, CutFilesLostError

if TYPE_CHECKING:
    from penstock.table.schema import TableSchema


class SegmentFileLike(Protocol):
    """What is read of `_core.SegmentFile`."""

    @property
    def path(self) -> str:
        """Relative to the table, as on disk."""

    @property
    def size_bytes(self) -> int:
        """Size of the file."""

    @property
    def rows(self) -> int:
        """Rows in it."""

    @property
    def first_position(self) -> int:
        """Position of its first row, over all lanes."""

    @property
    def last_position(self) -> int:
        """Position of its last row."""

    @property
    def partition_values(self) -> dict[str, str]:
        """Raw values."""

    @property
    def stats_json(self) -> str:
        """Delta statistics."""


def check_files(
    directory: Path, schema: TableSchema, files: Sequence[SegmentFileLike]
) -> list[int]:
    """Check every file of a commit, and give their modification times in ms since 1970.

    Raises:
        CutFilesLostError: A file is not there as it was written.
        CommitFailedError: A file must not be named by the table; nothing was committed.
    """
    return [_check_file(directory, schema, file) for file in files]


def _check_file(directory: Path, schema: TableSchema, file: SegmentFileLike) -> int:
    relative = PurePosixPath(file.path)
    if relative.is_absolute() or ".." in relative.parts:
        raise _bad(file, "path leads out of the table")
    try:
        status = (directory / file.path).stat()
    except FileNotFoundError as error:
        raise CutFilesLostError("cut_file_lost", f"{relative.name}: file is gone") from error
    except OSError as error:
        raise _bad(file, f"file can't be read: {error.strerror}") from error
    if status.st_size != file.size_bytes:
        problem = f"size is {status.st_size} bytes instead of {file.size_bytes}"
        raise CutFilesLostError("cut_file_lost", f"{relative.name}: {problem}")
    _check_partition(schema, file)
    try:
        rows = json.loads(file.stats_json)["numRecords"]
    except (ValueError, KeyError, TypeError) as error:
        raise _bad(file, "statistics can't be read") from error
    if rows != file.rows or file.rows < 1:
        raise _bad(file, f"{rows} rows in the statistics, {file.rows} written")
    return status.st_mtime_ns // 1_000_000


def _check_partition(schema: TableSchema, file: SegmentFileLike) -> None:
    values = file.partition_values
    if set(values) != set(schema.partition_columns):
        raise _bad(file, "partition columns are not those of the table")
    if "project" in values and not values["project"]:
        # It would read back as null.
        raise _bad(file, "empty project")
    try:
        # Takes years 0001 to 9999 alone: one beyond would make the table unopenable for good.
        day = datetime.date.fromisoformat(values["date"])
    except ValueError as error:
        raise _bad(file, "date is none, or outside the years 0001 to 9999") from error
    if day.isoformat() != values["date"]:
        raise _bad(file, "date is not written as YYYY-MM-DD")


def _bad(file: SegmentFileLike, problem: str) -> CommitFailedError:
    # The file's name alone: its directory is a project, which is a client's word (SEC-2).
    return CommitFailedError("file_check_failed", f"{PurePosixPath(file.path).name}: {problem}")
