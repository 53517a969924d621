"""Recorded requests of SDKs, byte for byte, against a real server; then SQL.

Each request is sent on a connection of its own exactly as the SDK sent it. The answer must be what
that SDK takes for success, and each event must be in `events` exactly once (ACK-2, TAB-1, DUP-1).
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from support.http import Response, send_raw
from support.recordings import Expectation, RecordedRequest, Recording, SentEvent, load
from support.server import RunningServer

pytestmark = pytest.mark.sdk

SDKS = ("python", "curl")
PATHS = frozenset(("/batch", "/e", "/i/v0/e", "/capture", "/track", "/engage"))
JSON_BODIES = frozenset(("plain", "content-encoding:gzip", "gzip-by-query", "gzip-by-magic"))
RECORDINGS = {sdk: load(sdk) for sdk in SDKS}

Row = dict[str, Any]


def is_replayed(request: RecordedRequest) -> bool:
    path = request.path.rstrip("/")
    return request.method == "POST" and path in PATHS and set(request.how) <= JSON_BODIES


def replayed_requests(recording: Recording) -> list[RecordedRequest]:
    return [request for request in recording.requests if is_replayed(request)]


def sent_events(recording: Recording, expectation: Expectation) -> set[SentEvent]:
    """Events of the expectation's run that fit it; a uuid sent twice is one event."""
    return {
        event
        for request in replayed_requests(recording)
        if request.label == expectation.label
        for event in request.events
        if event.event == expectation.event
        and expectation.distinct_id in (None, event.distinct_id)
        and expectation.uuid in (None, event.uuid)
    }


@dataclass
class Replay:
    """What came of sending one recording."""

    answers: dict[int, Response]
    rows: list[Row]

    def rows_of(self, sent: set[SentEvent]) -> list[Row]:
        identities = {(event.event, event.distinct_id) for event in sent}
        return [row for row in self.rows if (row["event"], row["distinct_id"]) in identities]


@pytest.fixture(scope="module")
def replays(running_server: RunningServer) -> dict[str, Replay]:
    answers = {
        sdk: {
            request.seq: send_raw(running_server.http, request.raw())
            for request in replayed_requests(recording)
        }
        for sdk, recording in RECORDINGS.items()
    }
    rows = running_server.query(
        "SELECT event, distinct_id, uuid, token, lib, client_timestamp, properties FROM events"
    )
    return {
        sdk: Replay(answers[sdk], [row for row in rows if (row["lib"] is None) == (sdk == "curl")])
        for sdk in SDKS
    }


REQUESTS = [
    pytest.param(sdk, request, id=f"{sdk}-{request.label}-{request.seq}".replace(" ", "-"))
    for sdk, recording in RECORDINGS.items()
    for request in replayed_requests(recording)
]
EXPECTATIONS = [
    pytest.param(sdk, expected, id=f"{sdk}-{expected.label}-{expected.event}".replace(" ", "-"))
    for sdk, recording in RECORDINGS.items()
    for expected in recording.expectations
    if sent_events(recording, expected)
]


@pytest.mark.parametrize(("sdk", "request_"), REQUESTS)
def test_request_is_answered_as_its_sdk_needs(
    sdk: str, request_: RecordedRequest, replays: dict[str, Replay]
) -> None:
    answer = replays[sdk].answers[request_.seq]
    if "beacon=1" in request_.target:
        assert (answer.status, answer.body) == (204, b"")
        return
    # 202, 204 and a bare `1` each make at least one SDK send again or report a loss.
    assert (answer.status, answer.body) == (200, b'{"status":"Ok"}')
    assert (answer.header("content-type") or "").startswith("application/json")


@pytest.mark.parametrize(("sdk", "expected"), EXPECTATIONS)
def test_expected_event_is_stored_exactly_once(
    sdk: str, expected: Expectation, replays: dict[str, Replay]
) -> None:
    sent = sent_events(RECORDINGS[sdk], expected)
    rows = replays[sdk].rows_of(sent)

    assert len(rows) == expected.count
    if all(event.uuid for event in sent):
        assert {row["uuid"] for row in rows} == {event.uuid for event in sent}
    for row in rows:
        properties = json.loads(row["properties"])
        assert properties | expected.properties == properties
        assert row["token"] == RECORDINGS[sdk].token
        if expected.timestamp is not None:
            # The corrected time depends on when the replay runs; what was sent does not.
            assert instant(row["client_timestamp"]) == instant(expected.timestamp)


@pytest.mark.parametrize("sdk", SDKS)
def test_nothing_but_what_was_sent_is_stored(sdk: str, replays: dict[str, Replay]) -> None:
    sent = [event for request in replayed_requests(RECORDINGS[sdk]) for event in request.events]
    with_uuid = {event.uuid for event in sent if event.uuid}
    without_uuid = sum(event.uuid is None for event in sent)
    assert len(replays[sdk].rows) == len(with_uuid) + without_uuid


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
