"""What each code of the core means to HTTP and gRPC clients: one table.

The codes themselves, their scopes and their public texts live in the core's table
(`rust_core/model`); a test holds the keys of this one equal to it. The statuses are chosen by what
SDKs do with them: they drop a batch on any 4xx, halve it on 413, and send again on 503.
"""

from typing import Final, NamedTuple


class Outcome(NamedTuple):
    """How a refusal is told.

    Attributes:
        http_status: Status of the HTTP answer.
        grpc_status: Name of the gRPC status, as in `grpc.StatusCode`.
        retryable: Whether the same request may be taken later.
    """

    http_status: int
    grpc_status: str
    retryable: bool


_INVALID: Final = Outcome(400, "INVALID_ARGUMENT", retryable=False)
_UNKNOWN_TOKEN: Final = Outcome(401, "UNAUTHENTICATED", retryable=False)
# 413 makes the SDKs that can split a batch do so. gRPC clients retry RESOURCE_EXHAUSTED as it is,
# which can't help here.
_TOO_LARGE: Final = Outcome(413, "INVALID_ARGUMENT", retryable=False)
_UNSUPPORTED: Final = Outcome(415, "INVALID_ARGUMENT", retryable=False)
# Never 429: the web and Java SDKs drop a batch on it.
_LATER: Final = Outcome(503, "UNAVAILABLE", retryable=True)

INTERNAL: Final = Outcome(500, "INTERNAL", retryable=False)
"""A bug of ours; also for a code that the table lacks, which a test keeps from being reached."""

OUTCOMES: Final[dict[str, Outcome]] = {
    "not_an_object": _INVALID,
    "missing_event_name": _INVALID,
    "invalid_event_name": _INVALID,
    "empty_event_name": _INVALID,
    "missing_distinct_id": _INVALID,
    "invalid_uuid": _INVALID,
    "invalid_properties": _INVALID,
    "invalid_cookieless_mode": _INVALID,
    "event_too_large": _TOO_LARGE,
    "event_too_deep": _INVALID,
    "token_mismatch": _UNKNOWN_TOKEN,
    "missing_payload": _INVALID,
    "invalid_gzip": _INVALID,
    "invalid_zstd": _INVALID,
    "unsupported_coding": _INVALID,
    "invalid_json": _INVALID,
    "unsupported_shape": _INVALID,
    "request_too_deep": _INVALID,
    "no_events": _INVALID,
    "too_many_events": _TOO_LARGE,
    "request_too_large": _TOO_LARGE,
    "decompressed_too_large": _TOO_LARGE,
    "missing_token": _UNKNOWN_TOKEN,
    "invalid_token": _UNKNOWN_TOKEN,
    "unknown_token": _UNKNOWN_TOKEN,
    "too_many_projects": _UNKNOWN_TOKEN,
    "conflicting_tokens": _INVALID,
    "invalid_message": _INVALID,
    "ack_not_allowed": _INVALID,
    "overloaded": _LATER,
    "shutting_down": _LATER,
    "starting": _LATER,
    "storage_failed": _LATER,
    "disk_full": _LATER,
    "wal_full": _LATER,
    "table_timeout": Outcome(503, "DEADLINE_EXCEEDED", retryable=True),
    "internal_error": INTERNAL,
    "invalid_deflate": _INVALID,
    "invalid_brotli": _INVALID,
    "invalid_base64": _INVALID,
    "invalid_lz64": _INVALID,
    "missing_snapshot_data": _INVALID,
    "missing_session_id": _INVALID,
    "invalid_session_id": _INVALID,
    "wrong_content_type": _INVALID,
    "invalid_multipart": _INVALID,
    "invalid_otlp": _INVALID,
    # Not 413: an export can't be split by its exporter.
    "too_many_spans": _INVALID,
    "not_an_ai_event": _INVALID,
    "missing_ai_model": _INVALID,
    # Of capture v1, which has no gRPC form. Its events are refused one by one under a 200.
    "event_name_too_long": _INVALID,
    "distinct_id_too_large": _INVALID,
    "invalid_event_timestamp": _INVALID,
    "invalid_options": _INVALID,
    "dropped_performance_event": _INVALID,
    "missing_authorization": _UNKNOWN_TOKEN,
    "missing_required_headers": _INVALID,
    "invalid_header_value": _INVALID,
    "unsupported_content_type": _UNSUPPORTED,
    "invalid_batch": _INVALID,
    "missing_event_uuid": _INVALID,
    "invalid_event_uuid": _INVALID,
    "duplicate_event_uuid": _INVALID,
    "cookieless_missing_user_agent": _INVALID,
    "cookieless_missing_ip": _INVALID,
    "cookieless_missing_host": _INVALID,
    "cookieless_timestamp_out_of_range": _INVALID,
    "cookieless_unsupported_event": _INVALID,
}

PUBLIC_TEXTS_USED_HERE: Final[dict[str, str]] = {
    "invalid_message": "message is not a valid AppendRequest",
    "invalid_token": "API key is not valid",
    "missing_token": "event submitted without an api_key",
    "overloaded": "server is overloaded, please retry",
    "request_too_large": "maximum event size exceeded: request body",
    "shutting_down": "server is shutting down, please retry",
    "starting": "server is starting, please retry",
    "unknown_token": "API key is not valid: unknown to this server",
    "unsupported_coding": "failed to decode request: unsupported content encoding",
}
"""Texts of refusals that a front makes before the core is asked. Held equal to the core's."""


def outcome_of(code: str) -> Outcome:
    """Look up how a code is told to clients."""
    return OUTCOMES.get(code, INTERNAL)


def whole_request_refused_text(index: int, code: str, public_text: str) -> str:
    """Say why nothing of a request was taken, by its first refused event."""
    return f"{public_text}: event {index}: {code}"


def refusal_text(code: str, detail: str = "") -> str:
    """Say why a front refuses a request: the code's text, then `: ` and the detail, if any."""
    return PUBLIC_TEXTS_USED_HERE[code] + (f": {detail}" if detail else "")
