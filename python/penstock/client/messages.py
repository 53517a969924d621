"""Requests and results of the client, without protobuf in the caller's hands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from penstock._pb.penstock.v1 import ingest_pb2 as pb

Ack = Literal["memory", "disk", "table"]
Events = bytes | Sequence[Mapping[str, object]]

_ACKS: Final[dict[str, pb.AckLevel.ValueType]] = {
    "memory": pb.ACK_LEVEL_MEMORY,
    "disk": pb.ACK_LEVEL_DISK,
    "table": pb.ACK_LEVEL_TABLE,
}
_REACHED: Final[dict[int, Ack]] = {
    pb.ACK_LEVEL_MEMORY: "memory",
    pb.ACK_LEVEL_DISK: "disk",
    pb.ACK_LEVEL_TABLE: "table",
}
_OUTCOMES: Final[dict[int, str]] = {
    pb.OUTCOME_ACCEPTED: "accepted",
    pb.OUTCOME_DUPLICATE: "duplicate",
    pb.OUTCOME_REJECTED: "rejected",
}


@dataclass(frozen=True, slots=True)
class EventException:
    """An event that was not simply accepted.

    Attributes:
        index: Its place in the batch, from 0.
        outcome: `duplicate` (it had been stored before: a success) or `rejected`.
        code: Stable name of the reason, if it was rejected.
        detail: More for people.
        uuid: Its id, if it has one.
    """

    index: int
    outcome: str
    code: str
    detail: str
    uuid: str


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of a batch.

    Attributes:
        log_position: Where it stands in the server's log.
        reached: The ack level that was reached; None if the server did not say.
        accepted: Events stored by this call.
        duplicates: Events stored before.
        exceptions: The events that were not simply accepted.
        attempts: How often the batch was sent.
    """

    log_position: int
    reached: Ack | None
    accepted: int
    duplicates: int
    exceptions: tuple[EventException, ...]
    attempts: int


def serialize_request(
    events: Events, token: str | None, ack: Ack | None, sent_at_unix_ms: int | None
) -> bytes:
    """Write the message of one call."""
    request = pb.AppendRequest(body=body_of(events))
    if token:
        request.token = token
    if ack is not None:
        request.ack = _ACKS[ack]
    if sent_at_unix_ms is not None:
        request.sent_at_unix_ms = sent_at_unix_ms
    return request.SerializeToString()


def body_of(events: Events) -> bytes:
    """Give the body: bytes as they are, events as `{"batch": [...]}`."""
    if isinstance(events, bytes):
        return events
    text = json.dumps({"batch": list(events)}, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def read_response(message: bytes, attempts: int) -> AppendResult:
    """Read an answer."""
    response = pb.AppendResponse.FromString(message)
    return AppendResult(
        log_position=response.log_position,
        reached=_REACHED.get(response.reached),
        accepted=response.accepted,
        duplicates=response.duplicates,
        exceptions=tuple(
            EventException(
                index=event.index,
                outcome=_OUTCOMES.get(event.outcome, "unspecified"),
                code=event.code,
                detail=event.detail,
                uuid=event.uuid,
            )
            for event in response.exceptions
        ),
        attempts=attempts,
    )
