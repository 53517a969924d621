"""Recorded requests of SDKs, byte for byte, against a real server; then SQL.

Each request is sent on a connection of its own exactly as the SDK sent it. The answer must be what
that SDK takes for success, and each event must be in `events` exactly once (ACK-2, TAB-1, DUP-1).
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from support.conformance import committed
from support.http import Response, send_raw
from support.recordings import Expectation, RecordedRequest, Recording, SentEvent, load
from support.server import RunningServer

pytestmark = pytest.mark.sdk

SDKS = (
    "android-core",
    "curl",
    "go",
    "java-server",
    "node",
    "php",
    "python",
    "react",
    "react-native",
    "web",
    "derived/posthog-dotnet",
    "derived/posthog-elixir",
    "derived/posthog-flutter",
    "derived/posthog-ios",
    "derived/posthog-java-legacy",
    "derived/posthog-rs",
    "derived/posthog-ruby",
)
# What carries events.
PATHS = frozenset(
    ("/batch", "/e", "/i/v0/e", "/capture", "/track", "/engage", "/i/v0/ai/batch"),
)
V1_PATHS = frozenset(("/i/v1/analytics/events", "/i/v1/ai/events"))
RECORDINGS = {sdk: load(sdk) for sdk in SDKS}

Row = dict[str, Any]


def is_replayed(request: RecordedRequest) -> bool:
    return request.method in {"GET", "POST"} and request.path.rstrip("/") in PATHS | V1_PATHS


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
        if all(event.uuid for event in sent):
            uuids = {event.uuid for event in sent}
            return [row for row in self.rows if row["uuid"] in uuids]
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
        "SELECT event, distinct_id, uuid, token, client_timestamp, properties FROM events"
    )
    return {sdk: Replay(answers[sdk], rows_of_recording(sdk, rows)) for sdk in SDKS}


def rows_of_recording(sdk: str, rows: list[Row]) -> list[Row]:
    """Pick what came of one recording: by uuid, else by name and person."""
    sent = {name: sent_by(recording) for name, recording in RECORDINGS.items()}
    everybodys = {event.uuid for events in sent.values() for event in events if event.uuid}
    uuids = {event.uuid for event in sent[sdk] if event.uuid}
    nameless = {(event.event, event.distinct_id) for event in sent[sdk] if not event.uuid}
    return [
        row
        for row in rows
        if row["uuid"] in uuids
        or (row["uuid"] not in everybodys and (row["event"], row["distinct_id"]) in nameless)
    ]


def sent_by(recording: Recording) -> list[SentEvent]:
    return [event for request in replayed_requests(recording) for event in request.events]


REQUESTS = [
    pytest.param(
        sdk,
        request,
        id=f"{sdk}-{request.label}-{request.seq}".replace(" ", "-"),
        marks=pytest.mark.replayed(sdk),
    )
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
    if request_.path in V1_PATHS:
        assert answer.status == 200
        ok = {event.uuid: {"result": "ok"} for event in request_.events}
        # In the order of the request.
        assert list(answer.json()["results"].items()) == list(ok.items())
        sent = {name.lower(): value for name, value in request_.headers}
        assert answer.header("posthog-request-id") == sent["posthog-request-id"]
        return
    # 202, 204 and a bare `1` each make at least one SDK send again or report a loss.
    assert (answer.status, answer.body) == (200, b'{"status":"Ok"}')
    assert (answer.header("content-type") or "").startswith("application/json")


@pytest.mark.parametrize(("sdk", "expected"), EXPECTATIONS)
def test_expected_event_is_stored_exactly_once(
    sdk: str, expected: Expectation, replays: dict[str, Replay]
) -> None:
    sent = sent_events(RECORDINGS[sdk], expected)
    stored = [
        (row, properties)
        for row in replays[sdk].rows_of(sent)
        if (properties := json.loads(row["properties"])) | expected.properties == properties
    ]

    uuids = [row["uuid"] for row, _ in stored]
    assert len(uuids) == len(set(uuids))
    if all(event.uuid for event in sent):
        assert set(uuids) <= {event.uuid for event in sent}
    if sdk == "web":
        # A page captures more than its script asks for: other clicks, and past a rate some more.
        assert len(stored) >= expected.count
    else:
        assert len(stored) == expected.count
    for row, _ in stored:
        assert row["token"] == RECORDINGS[sdk].token
        if expected.timestamp is not None:
            # The corrected time depends on when the replay runs; what was sent does not.
            assert instant(row["client_timestamp"]) == instant(expected.timestamp)


@pytest.mark.parametrize("sdk", SDKS)
def test_nothing_but_what_was_sent_is_stored(sdk: str, replays: dict[str, Replay]) -> None:
    sent = sent_by(RECORDINGS[sdk])
    uuids = {event.uuid for event in sent if event.uuid}
    nameless = sum(event.uuid is None for event in sent)
    found = [row["uuid"] for row in replays[sdk].rows]
    assert uuids <= set(found)
    assert len(found) == len(uuids) + nameless


@pytest.mark.parametrize("sdk", SDKS)
def test_results_count_the_requests_that_are_replayed(
    sdk: str, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--write-conformance", default=False):
        pytest.skip("being written")
    counted = committed()["replayed"].get(sdk)
    assert counted == len(replayed_requests(RECORDINGS[sdk])), "run `make conformance`"


def test_no_row_is_of_nobody(replays: dict[str, Replay], running_server: RunningServer) -> None:
    found = running_server.query("SELECT count(*) AS rows FROM events")
    assert found == [{"rows": sum(len(replay.rows) for replay in replays.values())}]


def test_preflights_are_answered_as_browsers_need(running_server: RunningServer) -> None:
    preflights = [
        request
        for request in RECORDINGS["web"].requests
        if request.method == "OPTIONS" and request.path.rstrip("/") in PATHS
    ]
    assert preflights
    for request in preflights:
        sent = {name.lower(): value for name, value in request.headers}
        answer = send_raw(running_server.http, request.raw())
        assert answer.status == 200
        assert answer.header("access-control-allow-origin") == sent["origin"]
        asked = sent["access-control-request-headers"]
        assert answer.header("access-control-allow-headers") == asked
        assert sent["access-control-request-method"] in (
            answer.header("access-control-allow-methods") or ""
        )


def instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    # Rust's client sends none, and means UTC.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
