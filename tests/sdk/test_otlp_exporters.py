"""Recorded exports of OpenTelemetry's exporters, byte for byte, against a real server; then SQL.

Exporters send again when they saw no answer: each export is sent twice, and stored once.
"""

import json
from typing import Any

import pytest

from support.http import Response, send_raw
from support.recordings import Recording, load
from support.server import RunningServer

pytestmark = pytest.mark.sdk

# Beside the recordings of SDKs, in the same form.
RECORDINGS = {name: load(f"../otlp/{name}") for name in ("node", "python")}

Row = dict[str, Any]


@pytest.fixture(scope="module")
def answers(running_server: RunningServer) -> dict[str, list[tuple[Response, str]]]:
    return {
        name: [
            (send_raw(running_server.http, request.raw()), dict(request.headers)["x-label"])
            for _ in range(2)
            for request in recording.requests
        ]
        for name, recording in RECORDINGS.items()
    }


@pytest.fixture(scope="module")
def rows(running_server: RunningServer, answers: object) -> list[Row]:  # noqa: ARG001 - sent before
    sql = "SELECT token, event, distinct_id, uuid, properties FROM events"
    return [
        row | {"properties": json.loads(row["properties"])} for row in running_server.query(sql)
    ]


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_export_is_answered_in_its_encoding(
    answers: dict[str, list[tuple[Response, str]]], name: str
) -> None:
    assert len(answers[name]) == 2 * len(RECORDINGS[name].requests)
    for response, label in answers[name]:
        assert response.status == 200, (label, response.body)
        is_json = label.startswith("json")
        assert response.body == (b"{}" if is_json else b"")
        kind = "application/json" if is_json else "application/x-protobuf"
        assert response.header("content-type") == kind


@pytest.mark.parametrize("recording", RECORDINGS.values(), ids=RECORDINGS)
def test_every_span_about_ai_is_stored_once(rows: list[Row], recording: Recording) -> None:
    assert len({expectation.label for expectation in recording.expectations}) == len(
        recording.requests
    )
    for expectation in recording.expectations:
        found = [
            row
            for row in rows
            if row["properties"]["run"] == expectation.label
            and row["event"] == expectation.event
            and expectation.distinct_id in (None, row["distinct_id"])
            and expectation.properties
            == {key: row["properties"].get(key) for key in expectation.properties}
        ]
        assert len(found) == expectation.count, expectation


def test_nothing_else_is_stored(rows: list[Row]) -> None:
    expected = [one for recording in RECORDINGS.values() for one in recording.expectations]
    assert len(rows) == sum(expectation.count for expectation in expected)
    assert {row["token"] for row in rows} == {"phc_sdktest"}
    assert len({row["uuid"] for row in rows}) == len(rows)
