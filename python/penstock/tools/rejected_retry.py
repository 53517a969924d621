"""`penstock rejected retry`: sends refused events again, repaired, to a running service.

Each goes in a request of its own, so that the answer is its own: stored (now, or by an earlier
retry), or refused again with its code. What makes a retry safe to repeat and true to the original
is added at the end of the event's text, where members win over earlier ones of the same name:

- An id made of the event's place, if it has none: however often it is sent again, also with other
  repairs, it is one event to the deduplication. If it is refused again, it is in `rejected` once
  more, at another place; so the first one is put in front of the text, in a member of the event
  that the service does not read.
- The time of its first receipt as `timestamp`, if it names no time; an `offset` is counted from
  there. A timestamp that it does name is taken as it stands, since the clock of the client that
  would correct it is not kept with refused events.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TextIO

from penstock.errors import PenstockError
from penstock.tools.http_form import HttpForm, member_starts
from penstock.tools.log_view import count_text
from penstock.tools.rejected import (
    EventId,
    RefusedEvent,
    RunQuery,
    Selection,
    find_ids,
    read_events,
)
from penstock.tools.sending import Sender, SendError

# Ids of this many events fit in memory many times over; whoever has more repairs them by the day.
MAX_RETRIED: Final = 100_000

# Texts read at once: each has at most 64 KiB.
_PAGE: Final = 100

# Of ids for events without one: any constant does, so long as it never changes.
_ID_SPACE: Final = uuid.UUID("5f1c1bb1-6d5e-4a0e-9a53-0f2f0c7b9d1e")

# An event needs no name on one, and is a snapshot on the other; all others read alike.
_OWN_ENDPOINTS: Final = frozenset({"engage", "s"})
_USUAL: Final = "batch"

_FIRST_PLACE: Final = "penstock_retry_of"
_PLACE: Final = re.compile(rb'"([0-9a-f]{32}\.\d{1,19}\.\d{1,9})"')

_EMPTY: Final = (b"null", b'""')
_NUMBER: Final = re.compile(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?")
# Longer than a place, and than any number of milliseconds that counts.
_SEEN_BYTES: Final = 96
_MAX_OFFSET_MS: Final = 1e13


@dataclass(frozen=True, slots=True)
class Repair:
    """What is done to each event before it is sent.

    Attributes:
        text: Instead of the event's own text.
        members: Members that are set, as JSON texts.
        token: Instead of the token that it came with.
        new_uuid: Whether its id, which may be what is wrong with it, is replaced.
    """

    text: bytes | None = None
    members: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    new_uuid: bool = False


def retry(
    run: RunQuery,
    selection: Selection,
    repair: Repair,
    sender: Sender,
    output: TextIO,
    errors: TextIO,
    *,
    limit: int = MAX_RETRIED,
) -> bool:
    """Send the events of a selection to a service, oldest first.

    Returns:
        Whether the service has all of them now.

    Raises:
        PenstockError: An id is unknown, or the service is out of reach: names what was done.
    """
    ids = find_ids(run, selection, errors, limit=None if selection.ids else limit)
    stored = refused = 0
    for start in range(0, len(ids), _PAGE):
        for event in read_events(run, ids[start : start + _PAGE]):
            shown = EventId("", event.log_position, event.batch_index)
            try:
                refusal = sender.send_form(http_form_of(event, repair))
            except SendError as error:
                if not error.of_record:
                    done = f"{stored} stored, {refused} refused before it"
                    raise PenstockError(error.code, f"{shown}: {error}; {done}") from error
                refusal = str(error)
            if refusal is None:
                stored += 1
            else:
                refused += 1
                errors.write(f"refused: {shown}: {refusal}\n")
    output.write(f"{count_text(stored, 'event')} stored, {refused} refused\n")
    if len(ids) == limit and not selection.ids:
        output.write(f"there may be more: this was a run of {limit}\n")
    output.flush()
    return refused == 0


def http_form_of(event: RefusedEvent, repair: Repair) -> HttpForm:
    """Make the request that sends one event again.

    Raises:
        SendError: Its text is no object, or was cut when it was refused.
    """
    text = (repair.text if repair.text is not None else event.raw.encode()).strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        cut = text.startswith(b"{")
        why = "its text was cut when it was kept" if cut else "its text is no JSON object"
        raise SendError(f"{why}; give a whole one with --event", of_record=True)
    members = {name: value.encode() for name, value in repair.members.items()}
    found = _beginnings(text, "uuid", "offset", "timestamp")
    values = found | members
    place = _first_place(event)
    if repair.new_uuid or _is_empty(values.get("uuid")):
        members["uuid"] = json.dumps(str(uuid.uuid5(_ID_SPACE, place))).encode()
    if (offset_ms := _offset(values.get("offset"))) is not None:
        happened = event.received_at - timedelta(milliseconds=offset_ms)
        members |= {"offset": b"null", "timestamp": _time(happened)}
    elif _is_empty(values.get("timestamp")):
        members["timestamp"] = _time(event.received_at)
    token = json.dumps(repair.token if repair.token is not None else event.token).encode()
    body = b'{"api_key":%s,"batch":[%s]}' % (token, _with(text, place, members))
    endpoint = event.endpoint if event.endpoint in _OWN_ENDPOINTS else _USUAL
    return HttpForm(endpoint, {"Content-Type": "application/json"}, body)


def _first_place(event: RefusedEvent) -> str:
    """Tell where the event was refused for the first time."""
    told = _beginnings(event.raw.encode(), _FIRST_PLACE).get(_FIRST_PLACE, b"")
    match = _PLACE.match(told)
    return match[1].decode() if match else str(event.id)


def _beginnings(text: bytes, *names: str) -> dict[str, bytes]:
    """Give, of those members that are there, enough of the value to tell what it is.

    Raises:
        SendError: The text is no JSON.
    """
    try:
        starts = member_starts(text)
    except ValueError as error:
        raise SendError("its text is no JSON; give another with --event", of_record=True) from error
    return {name: text[starts[name] :][:_SEEN_BYTES] for name in names if name in starts}


def _with(text: bytes, place: str, members: Mapping[str, bytes]) -> bytes:
    inner = text[1:-1].strip()
    first = b'"%s":"%s"' % (_FIRST_PLACE.encode(), place.encode())
    last = (json.dumps(name).encode() + b":" + value for name, value in members.items())
    return b"{%s}" % b",".join((first, *((inner,) if inner else ()), *last))


def _is_empty(value: bytes | None) -> bool:
    """Whether a member is absent, null or an empty string; `value` begins where it does."""
    return value is None or value.startswith(_EMPTY)


def _offset(value: bytes | None) -> float | None:
    match = _NUMBER.match(value or b"")
    number = float(match[0]) if match else math.inf
    # Beyond a calendar's range the service would take it for no time at all.
    return number if abs(number) < _MAX_OFFSET_MS else None


def _time(moment: datetime) -> bytes:
    return json.dumps(moment.astimezone(UTC).isoformat(timespec="microseconds")).encode()
