"""`penstock ledger`: what became of every event that was received."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from deltalake import DeltaTable

from penstock.cli_output import write_rows
from penstock.errors import PenstockError
from penstock.table import note as notes
from penstock.table.redaction import describe
from penstock.table.schema import TABLES, core_schema
from penstock.table.views import TablePart, open_connection, table_files
from penstock.tools.log_view import core_errors, token_text

if TYPE_CHECKING:
    from penstock.config import Settings

OTHERS: Final = "(all others)"

Outcomes = tuple[int, int, int]
"""Events: accepted, duplicate, rejected."""


class ProjectLike(Protocol):
    """What is read of `_core.LedgerProject`."""

    @property
    def project(self) -> str:
        """Name; empty: all that are not told apart."""

    @property
    def settled(self) -> Outcomes:
        """Received, and passed by all tables."""

    @property
    def waiting(self) -> Outcomes:
        """Received, and only in the log yet."""

    @property
    def set_aside(self) -> Outcomes:
        """Of those settled, in quarantine."""

    @property
    def recordings(self) -> tuple[int, int]:
        """Accepted and settled for `recordings`; of these, in quarantine."""


class LedgerLike(Protocol):
    """What is read of `_core.LedgerRead`."""

    @property
    def since(self) -> int:
        """Nothing up to this position was counted."""

    @property
    def passed(self) -> int:
        """Position up to which events are settled."""

    @property
    def projects(self) -> Sequence[ProjectLike]:
        """By name."""

    @property
    def unreadable_records(self) -> int:
        """Records whose events are nowhere here."""

    @property
    def damage(self) -> list[str]:
        """What could not be read."""


@dataclass(slots=True)
class Rows:
    """Rows of one project in one table.

    Attributes:
        all: How many there are.
        places: How many places in the log they come from: less than rows if some are doubled.
    """

    all: int = 0
    places: int = 0


Counted = dict[str, dict[str, Rows]]
"""Table to project to rows."""


@dataclass(slots=True)
class Difference:
    """A table that has not the rows that the ledger says."""

    table: str
    project: str
    expected: int
    rows: Rows = field(default_factory=Rows)


def read(data_dir: Path) -> LedgerLike:
    """Read the ledger of a live or stopped server, without a lock.

    Raises:
        DataDirectoryError: There is none, or one of a newer format.
        PenstockError: Ledger, note or log can't be read.
    """
    from penstock import _core  # noqa: PLC0415 - the command line is read without the core

    try:
        note = notes.decode(notes.read(data_dir))
    except Exception as error:
        raise PenstockError(
            "note_unreadable", f"the note can't be read: {describe(error)}"
        ) from error
    # Positions grow from lane to lane (WAL-3).
    passed = max(note.complete.values(), default=0)
    with core_errors():
        return _core.read_ledger(str(data_dir), passed)


def count_rows(data_dir: Path, ledger: LedgerLike) -> Counted:
    """Count the rows of the tables that the ledger has settled. Cost: four columns of all files.

    Read after the ledger: what is committed meanwhile is above what it has settled.

    Raises:
        duckdb.Error: A file can't be read.
        PenstockError: A table can't be opened.
    """
    data_dir = data_dir.absolute()
    parts: list[TablePart] = []
    for name in TABLES:
        directory = data_dir / name
        if not (directory / "_delta_log").is_dir():
            continue
        schema = core_schema(name)
        try:
            table = DeltaTable(directory)
            files = table_files(table, directory, schema.partition_columns)
            parts.append(TablePart(schema, table.schema().to_json(), files, (), {}))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise PenstockError("table_unreadable", f"{name}: {describe(error)}") from error
    counted: Counted = {}
    with tempfile.TemporaryDirectory() as spill:
        folders = [str(part_dir) for part_dir in (data_dir / name for name in TABLES)]
        with open_connection(parts, [*folders, spill], 0) as connection:
            for part in parts:
                name = part.schema.name
                sql = (
                    "SELECT project, count(*), "  # noqa: S608 - a name of ours, and numbers
                    "count(DISTINCT (lane, log_position, batch_index)) "
                    f"FROM {name} WHERE log_position > {ledger.since:d} "
                    f"AND log_position <= {ledger.passed:d} GROUP BY project"
                )
                counted[name] = {
                    str(project): Rows(rows, places)
                    for project, rows, places in connection.execute(sql).fetchall()
                }
    return counted


def expected_rows(project: ProjectLike) -> dict[str, int]:
    """Tell how many rows each table must have of what is settled for a project."""
    accepted, _, rejected = project.settled
    accepted_aside, _, rejected_aside = project.set_aside
    recordings, recordings_aside = project.recordings
    in_recordings = recordings - recordings_aside
    return {
        "events": accepted - accepted_aside - in_recordings,
        "recordings": in_recordings,
        "rejected": rejected - rejected_aside,
    }


def differences(ledger: LedgerLike, counted: Counted) -> list[Difference]:
    """Compare what the tables have with what they must have: missing, doubled or strange rows."""
    expected = {project.project: expected_rows(project) for project in ledger.projects}
    found: list[Difference] = []
    for table in TABLES:
        rows = _among(counted.get(table, {}), expected.keys())
        for project in sorted(expected.keys() | rows.keys()):
            wanted = expected.get(project, {}).get(table, 0)
            have = rows.get(project, Rows())
            if have.all != wanted or have.places != have.all:
                found.append(Difference(table, project, wanted, have))
    return found


def _among(rows: dict[str, Rows], projects: Collection[str]) -> dict[str, Rows]:
    """Put the rows of projects that the ledger does not tell apart together, if there are such."""
    if "" not in projects:
        return rows
    together: dict[str, Rows] = {}
    for project, one in rows.items():
        sum_ = together.setdefault(project if project in projects else "", Rows())
        sum_.all += one.all
        sum_.places += one.places
    return together


def ledger(settings: Settings, output: TextIO, *, recount: bool, as_json: bool) -> bool:
    """Write the ledger; whether the tables have what it says, as far as they were counted.

    Raises:
        DataDirectoryError: There is none, or one of a newer format.
        PenstockError: Ledger, note, log or a table can't be read.
        duckdb.Error: A file of a table can't be read.
    """
    found = read(settings.data_dir)
    counted = count_rows(settings.data_dir, found) if recount else None
    wrong = differences(found, counted) if counted is not None else []
    named = settings.projects.keys()
    lines = [(_shown(project.project, named), _line(project)) for project in found.projects]
    total = {name: sum(line[name] for _, line in lines) for name in _COLUMNS}
    if as_json:
        value: dict[str, object] = {
            "since_position": found.since,
            "settled_position": found.passed,
            "total": total,
            "projects": [{"project": name, **line} for name, line in lines],
            "unreadable_records": found.unreadable_records,
            "damage": found.damage,
        }
        if recount:
            value["differences"] = [
                {
                    "table": one.table,
                    "project": _shown(one.project, named),
                    "expected": one.expected,
                    "rows": one.rows.all,
                    "distinct": one.rows.places,
                }
                for one in wrong
            ]
        output.write(json.dumps(value, ensure_ascii=False) + "\n")
    else:
        rows = [(name, *(line[column] for column in _COLUMNS)) for name, line in lines]
        rows.append(("total", *(total[column] for column in _COLUMNS)))
        write_rows(output, ("project", *_COLUMNS), rows, "table")
        _write_remarks(found, output)
        for one in wrong:
            output.write(f"difference: {_sentence(one, named)}\n")
        if recount and not wrong:
            output.write("recount: the tables have exactly that\n")
    output.flush()
    return not wrong


_COLUMNS: Final = (
    "received",
    "accepted",
    "duplicate",
    "rejected",
    "in_log",
    "in_table",
    "quarantined",
    "rejected_in_log",
    "rejected_in_table",
)


def _line(project: ProjectLike) -> dict[str, int]:
    settled, waiting, aside = project.settled, project.waiting, project.set_aside
    accepted, duplicate, rejected = (
        one + other for one, other in zip(settled, waiting, strict=True)
    )
    return {
        "received": accepted + duplicate + rejected,
        "accepted": accepted,
        "duplicate": duplicate,
        "rejected": rejected,
        "in_log": waiting[0],
        "in_table": settled[0] - aside[0],
        "quarantined": aside[0],
        "rejected_in_log": waiting[2],
        "rejected_in_table": settled[2] - aside[2],
    }


def _shown(project: str, named: Collection[str]) -> str:
    """Shorten what is, or may be, a token (SEC-2)."""
    if not project:
        return OTHERS
    return project if project in named else token_text(project)


def _write_remarks(found: LedgerLike, output: TextIO) -> None:
    if found.since:
        output.write(f"counted since position {found.since}: the ledger began there\n")
    if found.unreadable_records:
        output.write(f"not counted: {found.unreadable_records} records that can't be read\n")
    for sentence in found.damage:
        output.write(f"warning: {sentence}\n")


def _sentence(one: Difference, named: Collection[str]) -> str:
    text = f"{one.table} has {one.rows.all} rows of {_shown(one.project, named)}"
    if one.rows.places != one.rows.all:
        text += f", {one.rows.all - one.rows.places} of them doubled"
    return f"{text}; the ledger says {one.expected}"
