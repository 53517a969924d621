"""A refused event as a request that sends it again, by the kind of route that refused it.

Capture v1, forms of AI events, `/engage` and `/s` have rules of their own, and judge it once more;
so do batches of AI events. A span is no event: what was made of it goes as an AI event of a batch.
All other routes read alike.

What makes sending safe to repeat and true to the original is added at the end of the event's text,
where members win over earlier ones of the same name:

- An id made of the event's place, if it has none: however often it is sent again, also with other
  repairs, it is one event to the deduplication. If it is refused again, it is in `rejected` once
  more, at another place; so the first one is put in front of the text, in a member of the event
  that the service does not read.
- The time of its first receipt as `timestamp`, if it names no time; an `offset` is counted from
  there. A timestamp that it does name is taken as it stands, since the clock of the client that
  would correct it is not kept with refused events. Capture v1 must be told one: that of now.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from penstock.tools.http_form import HttpForm, member_starts, object_end
from penstock.tools.sending import SendError
from penstock.tools.v1_form import is_v1, v1_headers

if TYPE_CHECKING:
    from penstock.tools.rejected import RefusedEvent

# Of ids for events without one: any constant does, so long as it never changes.
_ID_SPACE: Final = uuid.UUID("5f1c1bb1-6d5e-4a0e-9a53-0f2f0c7b9d1e")

_USUAL: Final = "batch"
_AI_BATCH: Final = "i/v0/ai/batch"
_AI_FORM: Final = "i/v0/ai"
# An event needs no name on one, is a snapshot on another, and an AI event on the third.
_BATCH_ENDPOINTS: Final = {
    "engage": "engage",
    "s": "s",
    _AI_BATCH: _AI_BATCH,
    "i/v0/ai/otel": _AI_BATCH,
}

_TOOL: Final = "penstock-rejected-retry"

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


def http_form_of(event: RefusedEvent, repair: Repair, now_us: int) -> HttpForm:
    """Make the request that sends one event again.

    Args:
        event: A row of `rejected`.
        repair: What is changed.
        now_us: Wall clock, microseconds since 1970.

    Raises:
        SendError: Its text is no object, or was cut when it was refused; or the token is none.
    """
    text = (repair.text if repair.text is not None else event.raw.encode()).strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        cut = text.startswith(b"{")
        why = "its text was cut when it was kept" if cut else "its text is no JSON object"
        raise SendError(f"{why}; give a whole one with --event", of_record=True)
    place = _first_place(event)
    members = _members(event, repair, text, place)
    token = repair.token if repair.token is not None else event.token
    if event.endpoint == _AI_FORM:
        return _ai_form(token, text, place, members)
    item = _with(text, place, members)
    headers = {"Content-Type": "application/json"}
    if is_v1(event.endpoint):
        headers |= v1_headers(_in_header(token), now_us, tool=_TOOL, name=place)
        body = b'{"created_at":%s,"batch":[%s]}' % (_time(event.received_at), item)
        return HttpForm(event.endpoint, headers, body)
    body = b'{"api_key":%s,"batch":[%s]}' % (json.dumps(token).encode(), item)
    return HttpForm(_BATCH_ENDPOINTS.get(event.endpoint, _USUAL), headers, body)


def _members(event: RefusedEvent, repair: Repair, text: bytes, place: str) -> dict[str, bytes]:
    """Give the members that are added to an event's text."""
    members = {name: value.encode() for name, value in repair.members.items()}
    values = _beginnings(text, "uuid", "offset", "timestamp") | members
    if repair.new_uuid or _is_empty(values.get("uuid")):
        members["uuid"] = json.dumps(str(uuid.uuid5(_ID_SPACE, place))).encode()
    # Capture v1 knows none.
    offset_ms = None if is_v1(event.endpoint) else _offset(values.get("offset"))
    if offset_ms is not None:
        happened = event.received_at - timedelta(milliseconds=offset_ms)
        members |= {"offset": b"null", "timestamp": _time(happened)}
    elif _is_empty(values.get("timestamp")):
        members["timestamp"] = _time(event.received_at)
    return members


def _ai_form(token: str, text: bytes, place: str, members: dict[str, bytes]) -> HttpForm:
    """Take an event apart into the parts of a form: the event, and its properties.

    Blobs, that had parts of their own, are among the properties of its text.
    """
    parts = {}
    start = _starts(text).get("properties", len(text))
    if text.startswith(b"{", start):
        try:
            end = object_end(text, start)
        except ValueError as error:
            raise _no_json() from error
        parts["event.properties"] = text[start:end]
        text = text[:start] + b"null" + text[end:]
    if members.get("properties", b"").lstrip().startswith(b"{"):
        parts["event.properties"] = members["properties"]
        members["properties"] = b"null"
    parts = {"event": _with(text, place, members)} | parts
    # No JSON has a line that begins with dashes.
    boundary = f"penstock-{uuid.uuid5(_ID_SPACE, place).hex}"
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n'
        b"Content-Type: application/json\r\n\r\n%s\r\n" % (boundary.encode(), name.encode(), part)
        for name, part in parts.items()
    )
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Authorization": f"Bearer {_in_header(token)}",
    }
    return HttpForm(_AI_FORM, headers, body + b"--%s--\r\n" % boundary.encode())


def _in_header(token: str) -> str:
    if not (token.isascii() and token.isprintable()):
        raise SendError(
            "its token can't stand in a header; give another with --token", of_record=True
        )
    return token


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
    starts = _starts(text)
    return {name: text[starts[name] :][:_SEEN_BYTES] for name in names if name in starts}


def _starts(text: bytes) -> dict[str, int]:
    try:
        return member_starts(text)
    except ValueError as error:
        raise _no_json() from error


def _no_json() -> SendError:
    return SendError("its text is no JSON; give another with --event", of_record=True)


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
