"""A record of the log as an HTTP request that means the same.

Three things of a record stand outside of its payload and must not be lost on the way:

- A token that came beside the body. That of gRPC is put into the body.
- The client's clock. Timestamps are corrected by the difference between it and the time of receipt,
  so it is put forward by as much as the record is old: to what that clock would show now.
- The client's address. It goes as `X-Forwarded-For`, which a server heeds that trusts a proxy.

An upload of session replay says when it was sent in its first snapshot, which would win over a
query: it goes in an envelope, whose own word wins; its library has a header. Forms of AI events,
and spans, are sent as they came: their token in its header, that clock in the query, where it wins
over the event's own.

Capture v1 has headers for the first two, and for what its clients say of themselves. Elsewhere
members are added at the end of the text of a body, where they win over earlier ones of the same
name; no event is written anew.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from penstock.tools.v1_form import is_v1, v1_headers

if TYPE_CHECKING:
    from penstock.tools.log_view import RecordLike

_GRPC_PREFIX: Final = "penstock."
"""How the endpoint of a record begins that came by gRPC: no path of HTTP does."""
_GRPC_GOES_TO: Final = "batch"
_RECORDINGS: Final = "s"
_TOOL: Final = "penstock-wal-replay"

AI_ENDPOINTS: Final = frozenset({"i/v0/ai", "i/v0/ai/otel"})
"""Whose bodies are no events, and whose tokens come in a header."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# What the query takes as milliseconds; fewer digits are seconds (`transport/http_query.py`).
_MIN_QUERY_MILLISECONDS: Final = 10**11
_MAX_QUERY_MILLISECONDS: Final = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class HttpForm:
    """One POST request.

    Attributes:
        target: Path without a slash in front, and query.
        headers: Without those of length and host.
        body: As it is sent.
    """

    target: str
    headers: dict[str, str]
    body: bytes


def http_form(record: RecordLike, now_us: int) -> HttpForm:
    """Make the request of a record.

    Args:
        record: A decoded record without a problem.
        now_us: Wall clock, microseconds since 1970.

    Raises:
        CoreError: The body has to be changed and can't be decoded.
    """
    endpoint = record.endpoint
    if endpoint in AI_ENDPOINTS:
        return _of_ai(record, now_us)
    if endpoint.startswith(_GRPC_PREFIX):
        endpoint = _GRPC_GOES_TO
    headers = _common_headers(record, "application/json")
    sent_at_us = record.sent_at_us
    if sent_at_us is not None:
        sent_at_us += now_us - record.received_at_us
    body, coding, query = record.payload(), record.coding, ""
    if coding not in _HEADER_CODINGS:
        # A form and what is made text have no header of their own; their text says the same.
        body, coding = gzip.compress(record.text(), mtime=0), "gzip"
    if is_v1(endpoint):
        headers |= v1_headers(
            record.request_token or "",
            now_us if sent_at_us is None else sent_at_us,
            tool=_TOOL,
            name=f"{record.lane}/{record.position}",
            sdk_info=record.sdk_info,
        )
    elif sent_at_us is not None or record.request_token is not None:
        text = record.text()
        wrap = endpoint == _RECORDINGS
        changed = with_members(text, record.request_token, sent_at_us, wrap=wrap)
        if changed is not None:
            body = changed if coding == "identity" else gzip.compress(changed, mtime=0)
            coding = "identity" if coding == "identity" else "gzip"
        else:
            query = _query(sent_at_us)
    if coding != "identity":
        headers["Content-Encoding"] = coding
    return HttpForm(endpoint + query, headers, body)


def _of_ai(record: RecordLike, now_us: int) -> HttpForm:
    """Send a form, or spans, as they came: what stands beside them has a header, or the query."""
    headers = _common_headers(record, record.content_type)
    if record.request_token is not None:
        headers["Authorization"] = f"Bearer {record.request_token}"
    if record.coding != "identity":
        headers["Content-Encoding"] = record.coding
    sent_at_us = record.sent_at_us
    if sent_at_us is not None:
        # It wins over what the event says of that, and has milliseconds.
        sent_at_us += now_us - record.received_at_us
    return HttpForm(record.endpoint + _query(sent_at_us), headers, record.payload())


def _common_headers(record: RecordLike, content_type: str) -> dict[str, str]:
    headers = {"Content-Type": content_type}
    if record.client_address is not None:
        headers["X-Forwarded-For"] = record.client_address
    if record.endpoint == _RECORDINGS and record.sdk_info is not None:
        headers["User-Agent"] = record.sdk_info
    return headers


def with_members(
    text: bytes, token: str | None, sent_at_us: int | None, *, wrap: bool = False
) -> bytes | None:
    """Add a token and the client's clock to a body, which is JSON that the service takes.

    Args:
        text: The body.
        token: To be added; None: none.
        sent_at_us: Likewise.
        wrap: Whether an event, or an array of them, is put into an envelope for the clock alone.

    Returns:
        None if the body has no place for a clock and needs no token: it goes into the query then.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK).strip()
    members: dict[str, object] = {}
    if token is not None:
        members["api_key"] = token
    if sent_at_us is not None and (sent_at := _time_text(sent_at_us)) is not None:
        members["sent_at"] = sent_at
    wrapped = token is not None or (wrap and bool(members))
    if text.startswith(b"["):
        return b'{"batch":%s,%s}' % (text, _inner(members)) if wrapped else None
    starts = member_starts(text)
    if text.startswith(b"[", starts.get("batch", len(text))):
        return text.removesuffix(b"}") + b"," + _inner(members) + b"}" if members else None
    if not wrapped:
        return None
    if text.startswith(b"true", starts.get(_IMPORT_FLAG, len(text))):
        members[_IMPORT_FLAG] = True
    return b'{"batch":[%s],%s}' % (text, _inner(members))


# Codings that a request may name in its Content-Encoding.
_HEADER_CODINGS: Final = frozenset({"identity", "gzip", "zstd", "deflate", "br"})

_IMPORT_FLAG: Final = "historical_migration"

# A string with the colon that makes it a name, or a border of a container. Nothing is tried twice.
_TOKEN: Final = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")(\s*+:\s*+)?+|[{}\[\]]', re.DOTALL)


def member_starts(text: bytes) -> dict[str, int]:
    """Find where the values of an object's members begin; the last of a name counts.

    A reader of JSON would refuse some that the service takes, such as lone surrogates, and hold
    all of it in memory.
    """
    starts: dict[str, int] = {}
    depth = 0
    for match in _TOKEN.finditer(text):
        name, colon = match.groups()
        if name is None:
            depth += 1 if match[0] in (b"{", b"[") else -1
        elif colon and depth == 1:
            starts[json.loads(name)] = match.end()
    return starts


def object_end(text: bytes, start: int) -> int:
    """Find where an object ends that begins at `start`.

    Raises:
        ValueError: It does not end.
    """
    depth = 0
    for match in _TOKEN.finditer(text, start):
        if match[1] is None:
            depth += 1 if match[0] in (b"{", b"[") else -1
            if depth == 0:
                return match.end()
    raise ValueError("an object does not end")


def _inner(members: dict[str, object]) -> bytes:
    """Write the members of an object without its braces."""
    return json.dumps(members).encode()[1:-1]


def _time_text(micros: int) -> str | None:
    try:
        return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")
    except OverflowError:
        # A clock beyond the calendar corrects nothing in any case.
        return None


def _query(sent_at_us: int | None) -> str:
    milliseconds = 0 if sent_at_us is None else sent_at_us // 1000
    known = _MIN_QUERY_MILLISECONDS <= milliseconds <= _MAX_QUERY_MILLISECONDS
    return f"?sent_at={milliseconds}" if known else ""
