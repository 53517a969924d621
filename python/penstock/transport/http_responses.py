"""HTTP answers as bytes. The common ones are built once a second, when the date changes."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock.transport.http_request import Facts

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
    return _assemble(200, JSON, SUCCESS_BODY, date, b"", head=False)


def build(
    status: int,
    body: bytes,
    content_type: bytes,
    date: bytes,
    facts: Facts,
    *,
    retry_after_seconds: int = 0,
    allow: bytes = b"",
) -> bytes:
    """Build any answer.

    Args:
        status: Status code.
        body: Sent except to HEAD and with 204.
        content_type: Of the body.
        date: The date header.
        facts: What the request asked for: CORS, closing, HEAD.
        retry_after_seconds: Whole seconds; 0: no such header.
        allow: Methods, for 405 and OPTIONS.
    """
    extra = b""
    if retry_after_seconds:
        extra += b"retry-after: %d\r\n" % retry_after_seconds
    if allow:
        extra += b"allow: " + allow + b"\r\n"
    if facts.close:
        extra += b"connection: close\r\n"
    elif facts.http_1_0:
        extra += b"connection: keep-alive\r\n"
    if facts.origin is not None:
        extra += _cors(facts)
    return _assemble(status, content_type, body, date, extra, head=facts.head)


def _assemble(
    status: int, content_type: bytes, body: bytes, date: bytes, extra: bytes, *, head: bool
) -> bytes:
    if status == 204:
        return _STATUS_LINES[status] + date + extra + b"\r\n"
    return b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n%s" % (
        _STATUS_LINES[status],
        content_type,
        len(body),
        date,
        extra,
        b"" if head else body,
    )


def _cors(facts: Facts) -> bytes:
    """Mirror the origin, never `*`: a wildcard breaks clients that send credentials."""
    headers = (
        b"access-control-allow-origin: %s\r\n"
        b"access-control-allow-credentials: true\r\n"
        b"access-control-expose-headers: Retry-After\r\n"
        b"vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
    ) % (facts.origin or b"")
    if facts.preflight:
        headers += (
            b"access-control-allow-methods: GET, POST, OPTIONS\r\n"
            b"access-control-max-age: %d\r\n" % _PREFLIGHT_MAX_AGE_SECONDS
        )
        if facts.requested_headers:
            headers += b"access-control-allow-headers: " + facts.requested_headers + b"\r\n"
    return headers
