"""`penstock rejected list` and `show`: what was refused, by the table and the log above it.

An event is named by its place: `POSITION.INDEX`, as `48.0`, or with its lane in front where a data
directory holds the rows of several that count alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO, cast

from penstock.cli_output import write_rows
from penstock.errors import PenstockError
from penstock.tools.log_view import token_text

if TYPE_CHECKING:
    from penstock.table.query import QueryResult

DEFAULT_LISTED: Final = 50

RunQuery = Callable[[str], "QueryResult"]

_ID: Final = re.compile(r"(?:([0-9a-f]{32})\.)?(\d{1,19})\.(\d{1,9})")
_AGE: Final = re.compile(r"(\d{1,6})([mhd])")
_AGE_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_MAX_POSITION: Final = (1 << 63) - 1

LISTED: Final = (
    "id",
    "received_at",
    "project",
    "endpoint",
    "reason",
    "event",
    "uuid",
    "raw_bytes",
    "lane",
)


class EventId(NamedTuple):
    """The place of a refused event; an empty lane is any."""

    lane: str
    position: int
    batch_index: int

    def __str__(self) -> str:
        place = f"{self.position}.{self.batch_index}"
        return f"{self.lane}.{place}" if self.lane else place

    def sql(self) -> str:
        """Write the condition that a row is it."""
        place = f"log_position = {self.position:d} AND batch_index = {self.batch_index:d}"
        return f"({place} AND lane = {_quoted(self.lane)})" if self.lane else f"({place})"


def read_id(text: str) -> EventId:
    """Read an id as `list` shows it, with or without a lane.

    Raises:
        ValueError: It is none.
    """
    match = _ID.fullmatch(text)
    if match is None or int(match[2]) > _MAX_POSITION:
        raise ValueError(f"{text!r} is no id of a refused event, such as 48.0")
    return EventId(match[1] or "", int(match[2]), int(match[3]))


def read_since(text: str, now: datetime) -> datetime:
    """Read a time in RFC 3339 (UTC if it names no offset), a day, or an age such as `90m`.

    Raises:
        ValueError: It is none.
    """
    age = _AGE.fullmatch(text)
    try:
        if age is not None:
            return now - timedelta(**{_AGE_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is no time, such as 2026-01-31T12:00:00Z, 2026-01-31, 90m, 24h or 7d"
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which refused events; without anything, all.

    Attributes:
        ids: Only these.
        project: Only of this project.
        reason: Only with this code.
        since: Only received then or later.
    """

    ids: tuple[EventId, ...] = ()
    project: str | None = None
    reason: str | None = None
    since: datetime | None = None

    def sql(self) -> str:
        """Write the condition on the rows of `rejected`."""
        conditions = ["true"]
        if self.ids:
            conditions.append(f"({' OR '.join(one.sql() for one in self.ids)})")
        if self.project is not None:
            conditions.append(f"project = {_quoted(self.project)}")
        if self.reason is not None:
            conditions.append(f"reason = {_quoted(self.reason)}")
        if self.since is not None:
            # The date, too: it names the files that need not be read.
            conditions.append(f"date >= DATE '{self.since.date().isoformat()}'")
            conditions.append(f"received_at >= TIMESTAMPTZ '{self.since.isoformat()}'")
        return " AND ".join(conditions)


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """One row of `rejected`, with its text. The columns are those of the table."""

    lane: str
    log_position: int
    batch_index: int
    received_at: datetime
    project: str
    token: str
    endpoint: str
    reason: str
    detail: str
    event: str | None
    distinct_id: str | None
    uuid: str | None
    raw: str

    @property
    def id(self) -> EventId:
        """Its place."""
        return EventId(self.lane, self.log_position, self.batch_index)


def query_runner(data_dir: Path, tail_memory_bytes: int) -> RunQuery:
    """Give what runs SQL on a data directory, as `penstock query` does."""
    from penstock.table.query import run_query  # noqa: PLC0415 - slow to import

    return lambda sql: run_query(data_dir, sql, tail_memory_bytes=tail_memory_bytes)


def list_rejected(
    run: RunQuery,
    selection: Selection,
    output: TextIO,
    errors: TextIO,
    *,
    limit: int = DEFAULT_LISTED,
    as_json: bool,
) -> None:
    """Write the newest refused events of a selection, newest first, without their text (SEC-2).

    Raises:
        DataDirectoryError: There is no data directory.
    """
    result = run(
        "SELECT log_position, batch_index, received_at, project, token, endpoint, reason, event, "  # noqa: S608 - quoted by Selection
        f"uuid, octet_length(raw::BLOB), lane FROM rejected WHERE {selection.sql()} "
        f"ORDER BY received_at DESC, log_position DESC, batch_index DESC LIMIT {limit:d}"
    )
    warn(result, errors)
    write_rows(
        output, LISTED, (_listed(row) for row in result.rows), "json" if as_json else "table"
    )
    output.flush()


def _listed(row: Sequence[object]) -> tuple[object, ...]:
    position, index, received_at, project, token, *rest = row
    # A project that is not configured is called by its token.
    shown = token_text(str(project)) if project == token else project
    return f"{position}.{index}", received_at, shown, *rest


def find_ids(
    run: RunQuery, selection: Selection, errors: TextIO, *, limit: int | None = None
) -> list[EventId]:
    """Find the places of the events of a selection, or its oldest `limit`, in order of receipt.

    Raises:
        PenstockError: An id of the selection is nowhere, or in several lanes.
    """
    of_limit = "" if limit is None else f"LIMIT {limit:d}"
    result = run(
        f"SELECT lane, log_position, batch_index FROM rejected WHERE {selection.sql()} "  # noqa: S608 - quoted by Selection
        f"ORDER BY received_at, lane, log_position, batch_index {of_limit}"
    )
    warn(result, errors)
    found = [EventId(*cast("tuple[str, int, int]", row)) for row in result.rows]
    for wanted in selection.ids:
        lanes = {
            one.lane for one in found if one[1:] == wanted[1:] and wanted.lane in {"", one.lane}
        }
        if not lanes:
            raise PenstockError("no_such_event", f"no refused event is {wanted}")
        if len(lanes) > 1:
            several = ", ".join(sorted(f"{lane}.{wanted}" for lane in lanes))
            raise PenstockError("ambiguous_event", f"{wanted} is in several lanes: {several}")
    return found


def read_events(run: RunQuery, ids: Sequence[EventId]) -> list[RefusedEvent]:
    """Read whole events by their places, in the order of `ids`."""
    columns = ", ".join(RefusedEvent.__dataclass_fields__)
    condition = Selection(ids=tuple(ids)).sql()
    rows = run(f"SELECT {columns} FROM rejected WHERE {condition}").rows  # noqa: S608 - as above
    events = {one.id: one for one in (RefusedEvent(*row) for row in rows)}  # type: ignore[arg-type]
    return [events[one] for one in ids]


def show(run: RunQuery, wanted: EventId, output: TextIO, errors: TextIO, *, form: str) -> None:
    """Write one refused event with its text: this is client data.

    Args:
        run: Runs SQL.
        wanted: Which.
        output: Gets it.
        errors: Told what the answer may lack.
        form: `text` for people, `json`, or `raw` for its text alone, byte for byte.

    Raises:
        PenstockError: There is no such event, or several.
    """
    (found,) = find_ids(run, Selection(ids=(wanted,)), errors)
    (event,) = read_events(run, [found])
    if form == "raw":
        output.write(event.raw)
    elif form == "json":
        output.write(json.dumps(_shown(event), ensure_ascii=False) + "\n")
    else:
        for name, value in _shown(event).items():
            if name != "raw" and value is not None:
                output.write(f"{name}: {_printable(str(value))}\n")
        output.write(f"\n{_printable(event.raw)}\n")
    output.flush()


def _shown(event: RefusedEvent) -> dict[str, object]:
    fields: dict[str, object] = {"id": f"{event.log_position}.{event.batch_index}"}
    for name in RefusedEvent.__dataclass_fields__:
        fields[name] = getattr(event, name)
    moment = event.received_at.astimezone(UTC)
    return fields | {"received_at": moment.isoformat().replace("+00:00", "Z")}


def _printable(text: str) -> str:
    """Keep what could command a terminal from doing so."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{MIDDLE DOT}"
        for character in text
    )


def warn(result: QueryResult, errors: TextIO) -> None:
    """Write what an answer may lack."""
    for warning in result.warnings:
        errors.write(f"warning: {warning}\n")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
