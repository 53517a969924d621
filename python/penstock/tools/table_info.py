"""`penstock table info`: what each table is, beside what was left of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from penstock.table import note as notes
from penstock.table.inspection import NEW, TORN, Inspection, Span, TableState, inspect
from penstock.table.ranges import outside, ranges_text, within
from penstock.tools.log_view import count_text, log_spans


def read(data_dir: Path) -> Inspection:
    """Look at log, note and tables, without a lock. Beside a server they may move meanwhile.

    Raises:
        DataDirectoryError: There is no data directory.
        PenstockError: The log can't be read.
    """
    # The log first: what is committed and let go meanwhile is then in the tables.
    spans = log_spans(data_dir)
    return inspect(data_dir, spans, notes.read(data_dir))


def info(data_dir: Path, output: TextIO, *, as_json: bool) -> bool:
    """Write what was found; whether all tables are as they were left.

    Raises:
        DataDirectoryError: There is no data directory.
        PenstockError: The log can't be read.
    """
    inspection = read(data_dir)
    if as_json:
        output.write(json.dumps(_as_json(inspection)) + "\n")
    else:
        for lane, first, last in inspection.spans:
            output.write(f"log: positions {first} to {last} of lane {lane}\n")
        if not inspection.spans:
            output.write("log: empty\n")
        for state in inspection.tables.values():
            output.write("".join(f"{line}\n" for line in table_lines(state, inspection.spans)))
    output.flush()
    return not inspection.changed


def table_lines(state: TableState, spans: list[Span]) -> list[str]:
    """Say what one table is."""
    if state.problem in {NEW, TORN}:
        return [f"{state.name}: {state.problem}"]
    lines = []
    if state.openable:
        size = f"{count_text(state.files, 'file')}, {count_text(state.size_bytes, 'byte')}"
        lines.append(f"{state.name}: version {state.version}, {size}, id {state.table_id}")
        lines += [
            f"  has everything of lane {lane} up to position {position}"
            for lane, position in sorted(state.txns.items(), key=lambda item: item[1])
        ]
    else:
        lines.append(f"{state.name}: can't be read")
    if state.code is not None:
        lines.append(f"  commits are held: {state.code}: {state.problem}")
        missing = state.missing
        if missing:
            lines.append(f"  missing: {ranges_text(missing)}")
            lines.append(
                f"    of it in the log: {ranges_text(within(missing, spans)) or 'nothing'}"
            )
            lines.append(f"    of it not: {ranges_text(outside(missing, spans)) or 'nothing'}")
    return lines


def _as_json(inspection: Inspection) -> dict[str, object]:
    return {
        "log": [
            {"lane": lane, "first": first, "last": last} for lane, first, last in inspection.spans
        ],
        "tables": {
            state.name: {
                "id": state.table_id or None,
                "version": state.version if state.openable else None,
                "files": state.files,
                "size_bytes": state.size_bytes,
                "committed": state.txns,
                "held": state.code,
                "problem": state.problem if state.code is not None else None,
                "missing": [one._asdict() for one in state.missing] if state.code else [],
                "missing_in_log": [one._asdict() for one in within(state.missing, inspection.spans)]
                if state.code
                else [],
            }
            for state in inspection.tables.values()
        },
    }
