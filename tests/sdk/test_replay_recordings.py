"""Recorded uploads of session replay, byte for byte, against a real server; then SQL.

What an SDK sent must come out as it was sent, each snapshot once, also if the SDK sends an upload
again (ACK-2, TAB-1, DUP-1).
"""

import gzip
import json
from typing import Any

import pytest

from support.http import send_raw
from support.recordings import RecordedRequest, load
from support.server import RunningServer

pytestmark = pytest.mark.sdk

SDKS = ("web", "derived/posthog-ios")
UPLOADS = {
    sdk: [
        request
        for request in load(sdk).requests
        if request.method == "POST" and request.path.rstrip("/") == "/s"
    ]
    for sdk in SDKS
}

Snapshot = dict[str, Any]


def snapshots(request: RecordedRequest) -> list[Snapshot]:
    found: list[Snapshot] = json.loads(gzip.decompress(request.body))
    return found


@pytest.fixture(scope="module")
def rows(running_server: RunningServer) -> dict[str, dict[str, Any]]:
    for uploads in UPLOADS.values():
        for request in uploads:
            for _ in range(2):
                answer = send_raw(running_server.http, request.raw())
                # The web SDK takes a body with `quota_limited` for the order to be silent.
                assert (answer.status, answer.body) == (200, b'{"status":"Ok"}')
    found = running_server.query("SELECT * FROM recordings")
    by_uuid = {row["uuid"]: row for row in found}
    assert len(by_uuid) == len(found)
    return by_uuid


@pytest.mark.parametrize("sdk", SDKS)
def test_every_snapshot_is_stored_once_and_as_it_was_sent(
    sdk: str, rows: dict[str, dict[str, Any]]
) -> None:
    sent = [snapshot for request in UPLOADS[sdk] for snapshot in snapshots(request)]
    assert sent
    for snapshot in sent:
        properties = snapshot["properties"]
        row = rows[snapshot["uuid"]]
        # With the NUL characters in it that a page's own gzip makes.
        assert json.loads(row["properties"]) == properties
        assert row["session_id"] == properties["$session_id"]
        assert row["window_id"] == properties.get("$window_id", properties["$session_id"])
        assert row["distinct_id"] == snapshot.get("distinct_id", properties.get("distinct_id"))
        assert row["snapshot_source"] == properties.get("$snapshot_source", "web")
        assert (row["lib"], row["lib_version"]) == (properties["$lib"], properties["$lib_version"])
        assert (row["event"], row["token"]) == ("$snapshot", "phc_sdktest")
        assert row["client_timestamp"] == snapshot["timestamp"]
        assert (row["sent_at"] is not None) == ("sent_at" in snapshot)
        assert row["warnings"] is None


def test_nothing_else_is_stored(
    rows: dict[str, dict[str, Any]], running_server: RunningServer
) -> None:
    sent = {
        snapshot["uuid"]
        for uploads in UPLOADS.values()
        for request in uploads
        for snapshot in snapshots(request)
    }
    assert rows.keys() == sent
    for table in ("events", "rejected"):
        assert running_server.query(f"SELECT count(*) AS n FROM {table}") == [{"n": 0}]
