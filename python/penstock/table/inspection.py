"""What a table is, beside what the log's note says it was: for people who have to decide.

Everything here only reads, and may run beside a server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from penstock.table import note as notes
from penstock.table.log_files import LogFiles
from penstock.table.log_table import differs_from_note
from penstock.table.note import Note, TableNote
from penstock.table.ranges import Range, missing_ranges
from penstock.table.redaction import describe
from penstock.table.schema import TABLES, TableSchema, column_types, core_schema

Span = tuple[str, int, int]

# Never committed to: no note of ours, no table.
NEW: Final = "not made yet"
# The end of its log, which nobody was told of: the log still has those rows.
TORN: Final = "the end of its log is torn; the next start mends it"


@dataclass(slots=True)
class TableState:
    """One table as it is now.

    Attributes:
        name: Name of the table.
        directory: Its folder.
        noted: What the note says of it; None: nothing was committed to it yet.
        table_id: Its id; empty if it can't be opened.
        version: Its version; -1 likewise.
        txns: Its transactions, of the lanes of note and log.
        files: How many it names.
        size_bytes: Of all of them.
        code: Why commits would be held, or are; None: it is as it was left.
        problem: The same in words.
        openable: Whether it could be read.
    """

    name: str
    directory: Path
    noted: TableNote | None
    table_id: str = ""
    version: int = -1
    txns: dict[str, int] = field(default_factory=dict)
    files: int = 0
    size_bytes: int = 0
    code: str | None = None
    problem: str | None = None
    openable: bool = False

    @property
    def missing(self) -> list[Range]:
        """What was committed by the note and is not by the table."""
        return missing_ranges(self.noted.txns if self.noted else {}, self.txns)

    def last_rows(self, lanes: Sequence[str]) -> dict[str, int]:
        """Find the highest position of each lane among the rows. Cost: two columns of all files.

        Raises:
            duckdb.Error: A file of the table can't be read.
        """
        sql = (
            "SELECT lane, max(log_position) FROM read_parquet($paths, hive_partitioning = false, "
            "union_by_name = true) WHERE list_contains($lanes, lane) GROUP BY lane"
        )
        return dict(self._ask(sql, {"lanes": list(lanes)})) if lanes else {}

    def rows_in(self, ranges: Sequence[Range]) -> int:
        """Count the rows of ranges of the log. Cost and errors as of `last_rows`."""
        if not ranges:
            return 0
        among = " OR ".join(
            f"(lane = $lane{number} AND log_position BETWEEN {one.first:d} AND {one.last:d})"
            for number, one in enumerate(ranges)
        )
        sql = (
            "SELECT count(*) FROM read_parquet($paths, hive_partitioning = false, "  # noqa: S608 - numbers alone
            f"union_by_name = true) WHERE {among}"
        )
        lanes = {f"lane{number}": one.lane for number, one in enumerate(ranges)}
        return sum(count for (count,) in self._ask(sql, lanes))

    def _ask(self, sql: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        paths = DeltaTable(self.directory).file_uris() if self.openable else []
        if not paths:
            return []
        with duckdb.connect(":memory:") as connection:
            return connection.execute(sql, {"paths": paths, **values}).fetchall()


@dataclass(slots=True)
class Inspection:
    """Tables, note and log of one data directory.

    Attributes:
        note: What the tables had passed, as noted; empty if the note can't be read.
        note_problem: Why it can't.
        spans: (lane, first, last position) of the log.
        tables: By name.
    """

    note: Note
    note_problem: str | None
    spans: list[Span]
    tables: dict[str, TableState]

    @property
    def changed(self) -> list[TableState]:
        """The tables on whose account commits are held."""
        return [state for state in self.tables.values() if state.code is not None]


def inspect(
    data_dir: Path,
    spans: Sequence[Span],
    note_bytes: bytes | None,
    *,
    schema_of: Callable[[str], TableSchema] = core_schema,
) -> Inspection:
    """Look at all tables. Nothing is changed.

    Args:
        data_dir: Data directory of a live or stopped server.
        spans: (lane, first, last position) in its log.
        note_bytes: Its note.
        schema_of: Gives the columns of a table.
    """
    problem = None
    try:
        note = notes.decode(note_bytes)
    except Exception as error:  # noqa: BLE001 - it can't be read, or is not ours
        note, problem = Note(), describe(error)
    tables = {
        name: _look(data_dir.absolute() / name, schema_of(name), note, spans) for name in TABLES
    }
    if problem is not None:
        for state in tables.values():
            state.code, state.problem = "note_unreadable", f"the note can't be read: {problem}"
    return Inspection(note, problem, list(spans), tables)


def _look(directory: Path, schema: TableSchema, note: Note, spans: Sequence[Span]) -> TableState:
    noted = note.tables.get(schema.name)
    state = TableState(schema.name, directory, noted)
    files = LogFiles(directory)
    if not files.entries() and not files.checkpoints():
        if noted is None:
            state.problem = NEW
        else:
            state.code, state.problem = "table_missing", "the table is gone"
        return state
    torn = _torn_entries(files)
    lost = [entry for entry in torn if noted is not None and entry <= noted.version]
    if lost:
        state.code = "table_damaged"
        state.problem = f"entry {lost[0]} of its log is damaged"
        return state
    if torn or files.torn_checkpoints():
        state.problem = TORN
        return state
    try:
        table = DeltaTable(directory)
        actions = table.get_add_actions(flatten=True)
        sizes = actions["size_bytes"].to_pylist()
        lanes = {lane for lane, _, _ in spans} | set(noted.txns if noted else ())
        seen = ((lane, table.transaction_version(lane)) for lane in sorted(lanes))
        state.txns = {lane: position for lane, position in seen if position is not None}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - panics of the library are not Exceptions
        what = "gone" if isinstance(error, TableNotFoundError) else describe(error)
        state.code, state.problem = "table_unreadable", f"it can't be opened: {what}"
        return state
    state.openable = True
    state.table_id, state.version = str(table.metadata().id), table.version()
    state.files, state.size_bytes = len(sizes), sum(sizes)
    have = column_types(table.schema().to_json())
    _compare(state, have, column_types(schema.schema_json))
    return state


def _compare(state: TableState, have: dict[str, object], ours: dict[str, object]) -> None:
    if state.noted is not None:
        difference = differs_from_note(
            state.noted, table_id=state.table_id, version=state.version, txns=state.txns
        )
        if difference is not None:
            state.code, state.problem = difference
    changed = [column for column, kind in ours.items() if have.get(column) != kind]
    if changed:
        state.code, state.problem = "schema_changed", f"column {changed[0]} is not ours"


def _torn_entries(files: LogFiles) -> list[int]:
    newest = files.newest_checkpoint()
    above = -1 if newest is None else newest
    return [entry for entry in files.entries() if entry > above and not files.entry_is_whole(entry)]
