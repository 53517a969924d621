"""Deciding about a table that went back, is another one, or lost its transactions.

While a table is not as it was left, commits are held, since going on could lose rows or double
them: only a person knows what happened to it. There are three things to believe, and each says up
to which position of the log the table has everything:

- its own *transactions*: what they don't name is committed from the log again. For a table that
  was set back to an older state, rows and transactions together.
- its *rows*: up to the last row of each lane. For a copy that has the rows and lost the
  transactions, as any engine makes one.
- the *note*: what was committed once counts as done, whatever became of it.

What is believed is written into the table as transactions and into the note, both synced; the next
start goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from penstock.errors import PenstockError
from penstock.logs import logger
from penstock.table import note as notes
from penstock.table.errors import HoldCommitsError
from penstock.table.log_table import LogTable
from penstock.table.note import Note, TableNote, newest_lanes
from penstock.table.ranges import Range, outside, within
from penstock.table.schema import TableSchema, core_schema

if TYPE_CHECKING:
    from penstock.table.inspection import Inspection, Span, TableState

_log = logger("table")

TRANSACTIONS: Final = "transactions"
ROWS: Final = "rows"
NOTE: Final = "note"
BELIEFS: Final = (TRANSACTIONS, ROWS, NOTE)

DAMAGED: Final = "table_damaged"
_PUT_BACK: Final = "put back a copy that opens, or move the folder away, and adopt that"
# A table in these states is not to be adopted as it is: it would be refused at the next start.
_NOT_TO_BE_ADOPTED: Final = {
    "schema_changed": "give the columns back first",
    "table_unreadable": _PUT_BACK,
    DAMAGED: _PUT_BACK,
}


class AdoptionError(PenstockError):
    """The table can't be adopted as it is."""


class NoteKeeper(Protocol):
    """The part of `_core.DirectoryLock` that is needed."""

    def write_table_note(self, note: bytes) -> None:
        """Replace the note, synced."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What believing one thing means for one table.

    Attributes:
        table: As it is.
        belief: One of `BELIEFS`.
        passed: Lane of the log to the position up to which the table is taken to have everything.
        replayed: Committed once, and committed from the log again.
        given_up: Committed once, in the log, and not brought back.
        gone: Committed once, and no longer in the log.
        doubled_rows: Rows of the table that come once more.
        kept_rows: Rows of the table among what is given up or gone: they are there all the same.
    """

    table: TableState
    belief: str
    passed: dict[str, int]
    replayed: list[Range]
    given_up: list[Range]
    gone: list[Range]
    doubled_rows: int
    kept_rows: int


def plan(table: TableState, belief: str, spans: Sequence[Span]) -> Plan:
    """Work out what would happen. Nothing is changed.

    Cost: reads two columns of the table.

    Raises:
        duckdb.Error: A file of the table can't be read.
    """
    passed = _passed(table, belief, [lane for lane, _, _ in spans])
    above = [(lane, max(first, passed.get(lane, -1) + 1), last) for lane, first, last in spans]
    missing = table.missing
    replayed = within(missing, above)
    not_replayed = outside(missing, above)
    given_up, gone = within(not_replayed, spans), outside(not_replayed, spans)
    return Plan(
        table,
        belief,
        passed,
        replayed,
        given_up,
        gone,
        table.rows_in([Range(*span) for span in above if span[1] <= span[2]]),
        table.rows_in(not_replayed),
    )


def _passed(table: TableState, belief: str, lanes: Sequence[str]) -> dict[str, int]:
    passed = {lane: table.txns[lane] for lane in lanes if lane in table.txns}
    believed: Mapping[str, int] = {}
    if belief == ROWS:
        believed = table.last_rows(lanes)
    elif belief == NOTE and table.noted is not None:
        noted = table.noted.txns
        believed = {lane: noted[lane] for lane in lanes if lane in noted}
    return passed | {
        lane: max(position, passed.get(lane, -1)) for lane, position in believed.items()
    }


def mend(data_dir: Path, table: TableState, schema: TableSchema) -> None:
    """Take torn entries at the end of a table's log out of it: only then is it known what it has.

    They are moved aside, not deleted. Durability: synced. To be done under the directory's lock.

    Raises:
        AdoptionError: What is damaged is not the end.
    """
    if table.code != DAMAGED:
        return
    try:
        LogTable(data_dir.absolute(), schema).open(None, ())
    except HoldCommitsError as error:
        raise AdoptionError("not_to_be_adopted", f"{error}; {_PUT_BACK}") from error


def check(table: TableState) -> None:
    """Refuse what would be held again.

    Raises:
        AdoptionError: Says what to do first.
    """
    advice = _NOT_TO_BE_ADOPTED.get(table.code or "")
    if advice is not None:
        raise AdoptionError("not_to_be_adopted", f"{table.name}: {table.problem}; {advice}")


def adopt(
    data_dir: Path,
    inspection: Inspection,
    plans: Sequence[Plan],
    keeper: NoteKeeper,
    *,
    schema_of: Callable[[str], TableSchema] = core_schema,
) -> None:
    """Carry plans out, under the lock of the data directory.

    Durability: on return, tables and note say what was decided, synced. After a crash in between
    the old note holds commits as before, and the same can be done again.

    Raises:
        AdoptionError: A table can't be adopted; no note was written.
        PenstockError: The disk failed, or the table changed meanwhile; the same.
    """
    for one in plans:
        check(one.table)
    tables = dict(inspection.note.tables)
    for one in plans:
        settled = _settle(data_dir, one, schema_of(one.table.name))
        if settled is None:
            tables.pop(one.table.name, None)
        else:
            tables[one.table.name] = settled
    # What all tables have is known again after the next cut; until then queries read a little more.
    keeper.write_table_note(notes.encode(Note(tables)))


def _settle(data_dir: Path, one: Plan, schema: TableSchema) -> TableNote | None:
    """Take a table as it is; None if it is left to be made with its first row."""
    table = LogTable(data_dir.absolute(), schema)
    lanes = list(one.passed)
    try:
        # Without a note: it is taken as it is, mended where a start would mend a new one.
        seen = table.open_or_make(lanes) if lanes else table.open(None, lanes)
        if any(seen.get(lane, -1) < position for lane, position in one.passed.items()):
            table.commit((), one.passed)
    except HoldCommitsError as error:
        raise AdoptionError("not_to_be_adopted", str(error)) from error
    _log.warning("table_adopted", table=one.table.name, believed=one.belief, version=table.version)
    if not table.made:
        return None
    return TableNote(table.table_id, table.version, newest_lanes({**seen, **one.passed}))
