"""`penstock table adopt`: what each choice would do, and doing one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from penstock.errors import ConfigError
from penstock.table import adoption
from penstock.table.adoption import BELIEFS, Plan
from penstock.table.inspection import Inspection, TableState, inspect
from penstock.table.ranges import ranges_text
from penstock.table.schema import core_schema
from penstock.tools.log_view import core_errors, count_text, log_spans
from penstock.tools.table_info import read, table_lines


def show_choices(data_dir: Path, names: Sequence[str], output: TextIO) -> bool:
    """Say what adopting would do, for each thing to believe. Nothing is changed.

    Returns:
        Whether there is nothing to adopt.

    Raises:
        ConfigError: There is no such table.
        DataDirectoryError: There is no data directory.
        PenstockError: The log can't be read.
    """
    inspection = read(data_dir)
    tables = _chosen(inspection, names)
    for state in tables:
        output.write("".join(f"{line}\n" for line in table_lines(state, inspection.spans)))
        if state.code == adoption.DAMAGED:
            # Else what it has is not known: nothing can be said before it is done.
            output.write(
                "  adopting moves torn entries at the end of its log aside, then decides\n"
            )
        for belief in BELIEFS if state.code != adoption.DAMAGED else ():
            output.write(f"  --believe {belief}\n")
            plan = adoption.plan(state, belief, inspection.spans)
            output.write("".join(f"    {line}\n" for line in plan_lines(plan)))
    _nothing_to_do(tables, output)
    return not tables


def adopt_tables(data_dir: Path, names: Sequence[str], belief: str, output: TextIO) -> None:
    """Adopt tables under the lock of the data directory. Durability: synced; see `adoption`.

    Raises:
        ConfigError: There is no such table.
        DataDirectoryError: There is no data directory, or a server runs in it.
        AdoptionError: A table can't be adopted as it is; says what to do first.
        PenstockError: The log can't be read, or the disk failed.
    """
    from penstock import _core  # noqa: PLC0415 - the command line is read without the core

    with core_errors():
        lock = _core.DirectoryLock(str(data_dir))
        try:
            spans, note = log_spans(data_dir), lock.table_note()
            for state in _chosen(inspect(data_dir, spans, note), names):
                adoption.mend(data_dir, state, core_schema(state.name))
            inspection = inspect(data_dir, spans, note)
            tables = _chosen(inspection, names)
            if tables:
                plans = [adoption.plan(state, belief, inspection.spans) for state in tables]
                adoption.adopt(data_dir, inspection, plans, lock)
                for plan in plans:
                    output.write(f"{plan.table.name}: adopted, believing its {belief}\n")
                    output.write("".join(f"  {line}\n" for line in plan_lines(plan)))
            _nothing_to_do(tables, output)
        finally:
            lock.close()
    output.flush()


def plan_lines(plan: Plan) -> list[str]:
    """Say what a plan does."""
    lines = []
    if plan.replayed:
        lines.append(f"committed again from the log: {ranges_text(plan.replayed)}")
    if plan.given_up:
        lines.append(f"in the log, and not committed again: {ranges_text(plan.given_up)}")
    if plan.gone:
        lines.append(f"no longer in the log: {ranges_text(plan.gone)}")
    if plan.given_up or plan.gone:
        there = count_text(plan.kept_rows, "row")
        lines.append(f"of what does not come back the table has {there}; all others are lost")
    if plan.doubled_rows:
        lines.append(f"doubled: {count_text(plan.doubled_rows, 'row')} that the table has already")
    return lines or ["nothing is lost, doubled, or committed again"]


def _chosen(inspection: Inspection, names: Sequence[str]) -> list[TableState]:
    unknown = [name for name in names if name not in inspection.tables]
    if unknown:
        known = ", ".join(inspection.tables)
        raise ConfigError("TABLE", "command line", f"no table {unknown[0]!r}; there are {known}")
    return [state for state in inspection.changed if not names or state.name in names]


def _nothing_to_do(tables: Sequence[TableState], output: TextIO) -> None:
    if not tables:
        output.write("nothing to adopt: the tables are as they were left\n")
