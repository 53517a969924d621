"""What of a record of capture v1 stands in headers, and what an answer of that protocol means."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock.tools.log_view import RecordLike

_PREFIX: Final = "i/v1/"

# Answers take some 60 bytes an event, 120 at most; a server of ours takes 50,000 events at once
# unless told otherwise.
MAX_ANSWER_BYTES: Final = 64 << 20

# What says nothing that would be written into events: there is no slash in it.
_NO_SDK_INFO: Final = "penstock-wal-replay"
_USER_AGENT: Final = "penstock-wal-replay"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def is_v1(record: RecordLike) -> bool:
    """Tell whether a record came by capture v1, and so goes by it."""
    return record.endpoint.startswith(_PREFIX)


def v1_headers(record: RecordLike, now_us: int) -> dict[str, str]:
    """Write the headers of a record's request.

    The client's clock is put forward by the record's age, as in `http_form`. The id of the request
    is the same each time that the record is sent.
    """
    sent_at_us = record.sent_at_us
    clock_us = now_us if sent_at_us is None else sent_at_us + now_us - record.received_at_us
    name = f"{record.lane}/{record.position}"
    return {
        "Authorization": f"Bearer {record.request_token or ''}",
        "User-Agent": _USER_AGENT,
        "PostHog-Sdk-Info": record.sdk_info or _NO_SDK_INFO,
        "PostHog-Attempt": "1",
        "PostHog-Request-Id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "PostHog-Request-Timestamp": _time_text(clock_us),
    }


def meaning_of(status: int, answer: bytes) -> int:
    """Give the status that an answer would have had in the older protocol.

    That is 503 if something is to be sent again, and 400 if everything was refused: capture v1 says
    both under 200.
    """
    if status != 200:
        return status
    try:
        results = json.loads(answer)["results"].values()
        words = {result["result"] for result in results}
    except (ValueError, KeyError, TypeError, AttributeError):
        # Whoever answered doesn't speak the protocol.
        return 502
    if "retry" in words:
        return 503
    return 400 if words == {"drop"} else 200


def _time_text(micros: int) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        # Beyond the calendar; the header must be there, and so far off is as good as another.
        moment = (
            datetime.max.replace(tzinfo=UTC) if micros > 0 else datetime.min.replace(tzinfo=UTC)
        )
    return moment.isoformat(timespec="microseconds")
