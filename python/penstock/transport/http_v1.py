"""Capture v1 as HTTP has it: which headers it takes, and how it tells that something is wrong.

Its errors are JSON documents with names of their own, whoever makes them: the core, or this front
before the core is asked. What becomes of single events is in the core's answer.
"""

from __future__ import annotations

import json
from typing import Final

URL_MARK: Final = b"/i/v1/"
"""Only requests with it in their URL have their headers kept for this protocol."""

ERROR_URI: Final = "https://posthog.com/docs/api"
"""Where the API that a client has called is described."""

_DECODING: Final = "request_decoding_error"
_PARSING: Final = "request_parsing_error"
_TOO_LARGE: Final = "payload_too_large"
_TOKEN: Final = "invalid_api_token"  # noqa: S105 - no secret
_LATER: Final = "service_unavailable"

ERROR_NAMES: Final[dict[str, str]] = {
    "missing_payload": "empty_body",
    "no_events": "empty_batch",
    "invalid_gzip": _DECODING,
    "invalid_zstd": _DECODING,
    "invalid_deflate": _DECODING,
    "invalid_brotli": _DECODING,
    "invalid_base64": _DECODING,
    "invalid_lz64": _DECODING,
    "unsupported_coding": "unsupported_encoding",
    "invalid_json": _PARSING,
    "unsupported_shape": _PARSING,
    "request_too_deep": _PARSING,
    "too_many_events": _TOO_LARGE,
    "request_too_large": _TOO_LARGE,
    "decompressed_too_large": _TOO_LARGE,
    "invalid_token": _TOKEN,
    "unknown_token": _TOKEN,
    "too_many_projects": _TOKEN,
    "overloaded": _LATER,
    "shutting_down": _LATER,
    "starting": _LATER,
    "storage_failed": _LATER,
    "disk_full": _LATER,
    "wal_full": _LATER,
    "table_timeout": _LATER,
}
"""What the protocol calls a code; a code that is not here has the same name there, or no other."""

# Of refusals that are no code of the core's, but of HTTP itself.
_NAMES_BY_STATUS: Final = {
    400: "bad_request",
    405: "method_not_allowed",
    408: "request_timeout",
    414: "uri_too_long",
    417: "expectation_failed",
    431: "request_headers_too_large",
    500: "internal_error",
}

# Where the older protocol has another.
_STATUSES: Final = {"unsupported_coding": 415}

# Clients send again on these, and wait at least so long.
_RETRIED_STATUSES: Final = frozenset({408, 500, 503, 504})
_RETRY_AFTER_SECONDS: Final = 1


def error_status(status: int, code: str) -> int:
    """Give the status of an error that has `status` in the older protocol."""
    return _STATUSES.get(code, status)


def error_retry_after_seconds(status: int, seconds: int) -> int:
    """Say after how long an error is to be tried again; 0: never."""
    return seconds or (_RETRY_AFTER_SECONDS if status in _RETRIED_STATUSES else 0)


def error_document(status: int, code: str, description: str) -> bytes:
    """Write an error as the protocol has it.

    Args:
        status: Of the answer.
        code: Code of the core's table; empty if HTTP itself has no better name for it.
        description: What the client can do about it.
    """
    name = ERROR_NAMES.get(code, code) or _NAMES_BY_STATUS.get(status, "error")
    document = {"error": name, "error_description": description, "error_uri": ERROR_URI}
    return json.dumps(document, separators=(",", ":")).encode()
