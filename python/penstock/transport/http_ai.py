"""AI events that come as a form or as spans of OpenTelemetry: what HTTP has to know of them.

Their token and the form of their body stand in headers, which other routes don't look at. Answers
to OpenTelemetry are messages of its protocol, in the encoding of the request; errors too: a
`google.rpc.Status`, whoever makes them. Its exporters send again on 503, and give up on 4xx.
"""

from __future__ import annotations

import json
from typing import Final

from penstock.retry_info import status
from penstock.transport.http_responses import JSON

URL_MARKS: Final = (b"/v0/ai", b"/v0/llma_otel")
"""Only requests with one of them in their URL have their headers kept for these routes."""

FORMS: Final = "i/v0/ai"
EXPORTS: Final = "i/v0/ai/otel"

PATHS: Final = {FORMS: (FORMS,), EXPORTS: (EXPORTS, "i/v0/ai/otel/v1/traces", "i/v0/llma_otel")}
"""Endpoints of the core to their paths: exporters that know a server only by its base add the
second's ending, and the third is what older clients have."""

# What the core takes, so that no more is read (`rust_core/decode/src/ai`): all parts of a form and
# a tenth for their heads; an export.
MAX_BODY_BYTES: Final = {FORMS: 28 << 20, EXPORTS: 4 << 20}

PROTOBUF: Final = b"application/x-protobuf"

# Numbers of gRPC statuses for refusals that HTTP itself makes.
_NUMBERS: Final = {400: 3, 401: 16, 405: 12, 408: 4, 413: 3, 500: 13, 503: 14}
_UNKNOWN: Final = 2


def export_type(content_type: bytes | None) -> bytes:
    """Give the content type of the answers to an export that has this one."""
    return PROTOBUF if content_type is not None and b"protobuf" in content_type.lower() else JSON


def error_body(http_status: int, words: bytes, content_type: bytes) -> bytes:
    """Write an error as OpenTelemetry's protocol has it.

    Args:
        http_status: Of the answer.
        words: What the client can do about it.
        content_type: As `export_type` gives it.
    """
    number = _NUMBERS.get(http_status, _UNKNOWN)
    text = words.decode()
    if content_type == PROTOBUF:
        return status(number, text)
    # PostHog's service has the text as `error`; readers of a status pass it by.
    return json.dumps({"code": number, "message": text, "error": text}).encode()
