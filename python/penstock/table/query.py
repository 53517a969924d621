"""SQL over the tables and what the log holds above them, from any process, without a lock.

The log is read first and the tables are opened last. Rows of the log are then kept above each
lane's transaction of that very version of the table, so a row that was committed in between is
counted once. What was read must join up with the table: if a piece is missing, it was released
while we read, so the transaction has moved and a new try finds it; if it has not moved, the piece
is damaged, and the answer says so.

A first look at the note beside the log tells which records need not be decoded, since every table
has their rows. It only saves work: if a table turns out to have less than the note says (someone
set it back), the log is read once more without it.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, Protocol

import duckdb
import msgspec
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from penstock.errors import DataDirectoryError
from penstock.table import note as notes
from penstock.table.note import Note
from penstock.table.schema import TABLES, TableSchema, core_schema
from penstock.table.spans import Gap, Span, missing_piece
from penstock.table.views import TableFile, TablePart, open_connection, table_files

DEFAULT_TAIL_MEMORY_BYTES: Final = 64 << 20

# Each further try means that a commit and a release ran while the log was read, which takes a few
# seconds of writing; five in a row mean that reading is slower than that.
MAX_TRIES: Final = 5

FORMAT_FILE: Final = "format.json"
SUPPORTED_FORMAT: Final = 1
"""Newest format of a data directory that is read (`rust_core/engine/src/directory.rs`)."""


class TailLike(Protocol):
    """What is read of `_core.TailRead`."""

    @property
    def files(self) -> Mapping[str, Sequence[str]]:
        """Parquet files by table."""

    @property
    def spans(self) -> Sequence[tuple[str, int, int]]:
        """(lane, first, last) that was read."""

    @property
    def damage(self) -> Sequence[str]:
        """What could not be read."""


ReadTail = Callable[[str, str, Mapping[str, int], int], TailLike]


@dataclass(slots=True)
class QueryResult:
    """What a query answered.

    Attributes:
        columns: Names of the columns.
        rows: The rows, as Python values.
        warnings: What the answer may lack, as sentences.
    """

    columns: list[str]
    rows: list[tuple[object, ...]]
    warnings: list[str] = field(default_factory=list)


def run_query(
    data_dir: Path,
    sql: str,
    *,
    tail_memory_bytes: int = DEFAULT_TAIL_MEMORY_BYTES,
    read_tail: ReadTail | None = None,
    schema_of: Callable[[str], TableSchema] = core_schema,
) -> QueryResult:
    """Run SQL over the tables, each a view of its name, as they are at this moment.

    Args:
        data_dir: Data directory of a live or stopped server. Nothing in it is changed.
        sql: Statements in DuckDB's dialect; the rows of the last one are returned.
        tail_memory_bytes: Unflushed rows are held in memory up to about this, else in files of the
            system's temporary folder, which are gone afterwards.
        read_tail: Reads the log; the core's, unless a test says otherwise.
        schema_of: Gives the columns of a table; the core's, likewise.

    Raises:
        DataDirectoryError: There is no data directory at that path, or it is of a newer format.
        duckdb.Error: The SQL is wrong, or failed.
    """
    data_dir = data_dir.absolute()
    _check_data_directory(data_dir)
    if read_tail is None:
        from penstock import _core  # noqa: PLC0415 - tests of this room run without it

        read_tail = _core.read_tail
    reader = _Reader(data_dir, [schema_of(name) for name in TABLES], read_tail, tail_memory_bytes)
    earlier: dict[str, Gap] = {}
    believe_note = True
    tries = 0
    while True:
        tries += 1
        with _temporary_folder() as folder:
            note = _first_look(data_dir) if believe_note else Note()
            snapshot = reader.snapshot(folder, note)
            if snapshot.less_than_noted:
                believe_note = False
                continue
            again = any(earlier.get(name) != gap for name, gap in snapshot.gaps.items())
            if again and tries < MAX_TRIES:
                earlier = snapshot.gaps
                continue
            try:
                columns, rows = _execute(snapshot, sql, folder, tail_memory_bytes)
            except duckdb.IOException:
                # A file may have been vacuumed between listing and reading.
                if tries < MAX_TRIES and not snapshot.files_are_there():
                    continue
                raise
            return QueryResult(columns, rows, snapshot.warnings())


def _check_data_directory(data_dir: Path) -> None:
    """Refuse what is no data directory, or a newer release's, before anything in it is read."""
    path = data_dir / FORMAT_FILE
    try:
        version = msgspec.json.decode(path.read_bytes(), type=_Format).format_version
    except FileNotFoundError as error:
        raise DataDirectoryError(
            "data_directory_unusable", f"no data directory at {data_dir}: no {FORMAT_FILE} there"
        ) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise DataDirectoryError(
            "data_directory_unusable", f"{path} can't be read: {error}"
        ) from error
    if version > SUPPORTED_FORMAT:
        raise DataDirectoryError(
            "data_directory_newer_format",
            f"{data_dir} has format {version}; this release reads up to {SUPPORTED_FORMAT}",
        )


class _Format(msgspec.Struct):
    format_version: int


def _first_look(data_dir: Path) -> Note:
    try:
        return notes.decode(notes.read(data_dir))
    except (OSError, ValueError):
        # None was written yet, or one of another release: everything is read.
        return Note()


@contextlib.contextmanager
def _temporary_folder() -> Iterator[str]:
    """Make a folder that is gone afterwards, also when the process is told to end meanwhile."""
    # By default these signals would end us on the spot. Whoever handles them knows better already.
    caught = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in caught:
        signal.signal(number, _end)
    try:
        with tempfile.TemporaryDirectory(prefix="penstock-query-") as folder:
            yield folder
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: object) -> NoReturn:
    # Once: a second signal must not stop the tidying up.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


@dataclass(slots=True)
class _Snapshot:
    """The tables at one version each, and the rows of the log above them."""

    data_dir: Path
    parts: list[TablePart]
    gaps: dict[str, Gap]
    damage: list[str]
    less_than_noted: bool = False

    def files_are_there(self) -> bool:
        return all(Path(file.path).exists() for part in self.parts for file in part.table_files)

    def warnings(self) -> list[str]:
        gaps = [
            f"{table}: positions {gap.first} to {gap.last} of the log could not be read; "
            "their rows are missing from the answer"
            for table, gap in self.gaps.items()
        ]
        return [*self.damage, *gaps]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the log, then the tables."""

    data_dir: Path
    schemas: Sequence[TableSchema]
    read_tail: ReadTail
    tail_memory_bytes: int

    def snapshot(self, folder: str, note: Note) -> _Snapshot:
        """Read what is there now, leaving out records that `note` says are in all tables."""
        tail = self.read_tail(str(self.data_dir), folder, note.complete, self.tail_memory_bytes)
        spans = [Span(lane, first, last) for lane, first, last in tail.spans]
        snapshot = _Snapshot(self.data_dir, [], {}, list(tail.damage))
        for schema in self.schemas:
            directory = self.data_dir / schema.name
            table = _open_table(directory)
            lanes = {span.lane for span in spans}
            passed = {} if table is None else _passed(table, lanes)
            noted = note.tables.get(schema.name)
            if noted is not None:
                snapshot.less_than_noted |= (
                    table is None
                    or str(table.metadata().id) != noted.id
                    or any(passed.get(lane, -1) < noted.txns.get(lane, -1) for lane in lanes)
                )
            gap = missing_piece(spans, passed)
            if gap is not None:
                snapshot.gaps[schema.name] = gap
            files: list[TableFile] = []
            if table is not None and not snapshot.less_than_noted:
                files = table_files(table, directory, schema.partition_columns)
            snapshot.parts.append(
                TablePart(
                    schema=schema,
                    table_json=None if table is None else table.schema().to_json(),
                    table_files=files,
                    tail_files=list(tail.files.get(schema.name, ())),
                    passed=passed,
                )
            )
        return snapshot


def _passed(table: DeltaTable, lanes: Iterable[str]) -> dict[str, int]:
    seen = ((lane, table.transaction_version(lane)) for lane in lanes)
    return {lane: position for lane, position in seen if position is not None}


def _open_table(directory: Path) -> DeltaTable | None:
    try:
        return DeltaTable(directory)
    except TableNotFoundError:
        # Before its first start a server has no tables.
        return None


def _execute(
    snapshot: _Snapshot, sql: str, folder: str, tail_memory_bytes: int
) -> tuple[list[str], list[tuple[object, ...]]]:
    readable = [*(str(snapshot.data_dir / part.schema.name) for part in snapshot.parts), folder]
    connection = open_connection(snapshot.parts, readable, tail_memory_bytes)
    try:
        connection.execute(sql)
        columns = [str(column[0]) for column in connection.description or ()]
        return columns, connection.fetchall() if columns else []
    finally:
        connection.close()
