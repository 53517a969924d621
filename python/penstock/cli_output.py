"""How `penstock query` writes its rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final, TextIO

FORMATS: Final = ("table", "json", "ndjson", "csv")

# A cell of a table for people; JSON and CSV are never cut.
MAX_CELL_CHARACTERS: Final = 60


def write_rows(
    output: TextIO, columns: Sequence[str], rows: Iterable[Sequence[object]], output_format: str
) -> None:
    """Write rows in one of `FORMATS`."""
    if output_format == "csv":
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(cell) for cell in row] for row in rows)
    elif output_format == "table":
        _write_table(output, columns, rows)
    else:
        _write_json(output, columns, rows, lines=output_format == "ndjson")


def _write_json(
    output: TextIO, columns: Sequence[str], rows: Iterable[Sequence[object]], *, lines: bool
) -> None:
    separator = "" if lines else "["
    for row in rows:
        record = dict(zip(columns, row, strict=True))
        output.write(separator + json.dumps(record, ensure_ascii=False, default=_plain))
        separator = "\n" if lines else ",\n"
    if not lines:
        output.write("[]\n" if separator == "[" else "]\n")
    elif separator:
        output.write("\n")


def _write_table(output: TextIO, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    cells = [[_cut(_text(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in ([*columns], ["-" * width for width in widths], *cells):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        output.write("  ".join(padded).rstrip() + "\n")
    output.write(f"({len(cells)} row{'' if len(cells) == 1 else 's'})\n")


def _cut(text: str) -> str:
    # Control characters of a stranger's event must not reach the terminal.
    line = "".join(character if character.isprintable() else "\N{MIDDLE DOT}" for character in text)
    return line if len(line) <= MAX_CELL_CHARACTERS else line[: MAX_CELL_CHARACTERS - 1] + "…"


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False, default=_plain)
    plain = _plain(cell)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _plain(value: object) -> object:
    """Make JSON of what JSON lacks; times in RFC 3339, UTC."""
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Decimal):
        return float(value)
    return str(value)
