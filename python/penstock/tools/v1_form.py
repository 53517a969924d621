"""What of a request of capture v1 stands in headers, and what an answer of that protocol means."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

_PREFIX: Final = "i/v1/"

# Answers take some 60 bytes an event, 120 at most; a server of ours takes 50,000 events at once
# unless told otherwise.
MAX_ANSWER_BYTES: Final = 64 << 20

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def is_v1(endpoint: str) -> bool:
    """Tell whether what came by an endpoint came by capture v1, and so goes by it."""
    return endpoint.startswith(_PREFIX)


def v1_headers(
    token: str, clock_us: int, *, tool: str, name: str, sdk_info: str | None = None
) -> dict[str, str]:
    """Write the headers of a request.

    Args:
        token: Of the project.
        clock_us: What the client's clock shows now, microseconds since 1970.
        tool: Who sends it.
        name: Of the request; it has the same id each time that it is sent.
        sdk_info: What the client said of itself. Without it nothing is said that would be written
            into events: there is no slash in the name of the tool.
    """
    return {
        "Authorization": f"Bearer {token}",
        "User-Agent": tool,
        "PostHog-Sdk-Info": sdk_info or tool,
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


def refusal_of(answer: bytes) -> str | None:
    """Give why the one event of a request was refused; None: no answer that says so."""
    try:
        (result,) = json.loads(answer)["results"].values()
        details = result["details"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return details if isinstance(details, str) else None


def _time_text(micros: int) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        # Beyond the calendar; the header must be there, and so far off is as good as another.
        moment = (
            datetime.max.replace(tzinfo=UTC) if micros > 0 else datetime.min.replace(tzinfo=UTC)
        )
    return moment.isoformat(timespec="microseconds")
