"""HTTP answers as bytes. The common ones are built once a second, when the date changes."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock.transport.http_request import Facts, Verdict

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"
SUCCESS_BODY: Final = b'{"status":"Ok"}'
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# A day: preflights cost a browser a round trip before each event.
_PREFLIGHT_MAX_AGE_SECONDS: Final = 86_400

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def date_header(now: float | None = None) -> bytes:
    """Write the date header for a wall clock time (now)."""
    date = formatdate(time.time() if now is None else now, usegmt=True)
    return b"date: " + date.encode() + b"\r\n"


def success(date: bytes) -> bytes:
    """Build the answer of a stored request to a client that asked for nothing special."""
    return _assemble(200, JSON, len(SUCCESS_BODY), date, b"") + SUCCESS_BODY


def is_same(if_none_match: bytes, etag: bytes) -> bool:
    """Tell whether a client's copy is still good (RFC 9110 §13.1.2)."""
    tags = (tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b","))
    return any(tag in {etag, b"*"} for tag in tags)


def build(verdict: Verdict, date: bytes, facts: Facts, *, following_bytes: int = 0) -> bytes:
    """Build any answer, or its head where more follows.

    Args:
        verdict: What it says; the body is sent except to HEAD and with 204 and 304.
        date: The date header.
        facts: What the request asked for: CORS, closing, HEAD.
        following_bytes: What will be sent behind the body and belongs to it.
    """
    extra = verdict.headers
    if verdict.retry_after_seconds:
        extra += b"retry-after: %d\r\n" % verdict.retry_after_seconds
    if verdict.allow:
        extra += b"allow: " + verdict.allow + b"\r\n"
    if facts.close:
        extra += b"connection: close\r\n"
    elif facts.http_1_0:
        extra += b"connection: keep-alive\r\n"
    if facts.request_id is not None:
        extra += b"posthog-request-id: " + facts.request_id + b"\r\n"
    if facts.origin is not None:
        extra += _cors(facts)
    elif verdict.etag:
        # Kept, and given to another page, it would lack what that page needs to read it.
        extra += b"vary: Origin\r\n"
    if verdict.etag:
        extra += b"etag: " + verdict.etag + b"\r\n"
    if verdict.status in {204, 304}:
        return _STATUS_LINES[verdict.status] + date + extra + b"\r\n"
    length = len(verdict.body) + following_bytes
    head = _assemble(verdict.status, verdict.content_type, length, date, extra)
    return head if facts.head else head + verdict.body


def _assemble(status: int, content_type: bytes, length: int, date: bytes, extra: bytes) -> bytes:
    return b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n" % (
        _STATUS_LINES[status],
        content_type,
        length,
        date,
        extra,
    )


def _cors(facts: Facts) -> bytes:
    """Mirror the origin, never `*`: a wildcard breaks clients that send credentials."""
    exposed = b"Retry-After"
    if facts.request_id is not None:
        exposed += b", PostHog-Request-Id"
    headers = (
        b"access-control-allow-origin: %s\r\n"
        b"access-control-allow-credentials: true\r\n"
        b"access-control-expose-headers: %s\r\n"
        b"vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
    ) % (facts.origin or b"", exposed)
    if facts.preflight:
        headers += b"access-control-allow-methods: %s\r\naccess-control-max-age: %d\r\n" % (
            facts.methods,
            _PREFLIGHT_MAX_AGE_SECONDS,
        )
        if facts.requested_headers:
            headers += b"access-control-allow-headers: " + facts.requested_headers + b"\r\n"
    return headers
