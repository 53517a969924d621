"""Capture v1 against a real server: answers, rows, and what survives a crash and a replay."""

import gzip
import json
import socket
import uuid
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from support.command import run_penstock

pytestmark = pytest.mark.service

PATH = "/i/v1/analytics/events"
REQUEST_ID = "0198c0de-0000-7000-8000-000000000abc"
NOW = "2026-01-02T03:04:05Z"
HEADERS = {
    "Authorization": "Bearer phc_v1",
    "Content-Type": "application/json",
    "User-Agent": "posthog-test/1.2.3",
    "PostHog-Sdk-Info": "posthog-test/1.2.3",
    "PostHog-Attempt": "1",
    "PostHog-Request-Id": REQUEST_ID,
    "PostHog-Request-Timestamp": NOW,
}


def event(name="seen", **more):
    fixed = {"event": name, "uuid": str(uuid.uuid4()), "distinct_id": "ada", "timestamp": NOW}
    return fixed | more


def envelope(*events, **more):
    return json.dumps({"created_at": NOW, "batch": events, **more}).encode()


def post(server, body, path=PATH, **headers):
    """POST with the headers that the protocol asks for; `None` leaves one out."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in (HEADERS | named).items() if value is not None}
    return server.request("POST", path, body=body, headers=list(sent.items()))


def results(answer):
    assert answer.status == 200, answer.body
    return [(key, *value.values()) for key, value in answer.json()["results"].items()]


def error(answer):
    assert answer.header("content-type") == "application/json"
    document = answer.json()
    assert set(document) == {"error", "error_description", "error_uri"}
    return answer.status, document["error"]


def test_every_event_has_its_result_in_the_order_of_the_request(running_server):
    events = [
        event("first"),
        event(""),
        event("x" * 201),
        event(distinct_id="d" * 201),
        event(distinct_id="undefined"),
        event(timestamp="yesterday"),
        event(properties=[]),
        event(options=7),
        event("$performance_event"),
        event("last"),
    ]
    answer = post(running_server, envelope(*events))
    uuids = [item["uuid"] for item in events]
    assert results(answer) == [
        (uuids[0], "ok"),
        (uuids[1], "drop", "missing_event_name"),
        (uuids[2], "drop", "event_name_too_long"),
        (uuids[3], "drop", "distinct_id_too_large"),
        (uuids[4], "ok", "person_processing_disabled"),
        (uuids[5], "drop", "invalid_event_timestamp"),
        (uuids[6], "drop", "malformed_event_properties"),
        (uuids[7], "drop", "invalid_options"),
        (uuids[8], "drop", "dropped_performance_event"),
        (uuids[9], "ok"),
    ]
    assert answer.header("posthog-request-id") == REQUEST_ID
    assert answer.header("retry-after") is None
    assert answer.header("date")
    stored = running_server.query(
        f"SELECT uuid, person_mode, warnings FROM events WHERE uuid IN {tuple(uuids)}"
    )
    assert sorted((row["uuid"], row["person_mode"], row["warnings"]) for row in stored) == sorted(
        [
            (uuids[0], "full", None),
            (uuids[4], "propertyless", ["person_processing_disabled"]),
            (uuids[9], "full", None),
        ]
    )
    refused = running_server.query(
        f"SELECT endpoint, reason FROM rejected WHERE uuid IN {tuple(uuids)} ORDER BY batch_index"
    )
    assert [row["reason"] for row in refused] == [
        "empty_event_name",
        "event_name_too_long",
        "distinct_id_too_large",
        "invalid_event_timestamp",
        "invalid_properties",
        "invalid_options",
        "dropped_performance_event",
    ]
    assert {row["endpoint"] for row in refused} == {"i/v1/analytics/events"}


def test_a_request_of_refused_events_only_is_answered_event_by_event(running_server):
    bad = event("")
    answer = post(running_server, envelope(bad))
    assert results(answer) == [(bad["uuid"], "drop", "missing_event_name")]


COLUMNS = """SELECT project, token, uuid, event, distinct_id, timestamp, sent_at, client_timestamp,
    properties, person_mode, session_id, window_id, lib, lib_version, elements_chain, ip,
    historical, warnings, batch_index FROM events WHERE uuid IN {} ORDER BY uuid"""


def rich_events():
    return [
        event(
            "rich",
            session_id="s",
            window_id="w\n",
            options={
                "cookieless_mode": "false",
                "disable_skew_correction": 0,
                "product_tour_id": 7,
                "process_person_profile": False,
            },
            properties={"$lib": "own", "$session_id": "own", "n": 1, "$set": {"a": "é"}},
        ),
        event("plain", distinct_id=" ada "),
        event("nobody", distinct_id="null"),
        event(""),
    ]


def rows_of(server, events):
    return server.query(COLUMNS.format(tuple(item["uuid"] for item in events)))


def test_a_row_has_what_headers_envelope_and_event_say(running_server):
    rich, plain, *_ = events = rich_events()
    answer = post(
        running_server,
        envelope(*events, historical_migration=True, capture_internal=True),
        PostHog_Request_Timestamp=(datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    )
    assert answer.status == 200
    rows = {row["uuid"]: row for row in rows_of(running_server, events)}
    row = rows[rich["uuid"]]
    assert json.loads(row["properties"]) == {
        "n": 1,
        "$set": {"a": "é"},
        "$session_id": "s",
        "$window_id": "w\n",
        "$cookieless_mode": False,
        "$ignore_sent_at": False,
        "$process_person_profile": False,
        "$product_tour_id": "7",
        "$lib": "posthog-test",
        "$lib_version": "1.2.3",
    }
    assert (row["session_id"], row["window_id"]) == ("s", "w\n")
    assert (row["lib"], row["lib_version"]) == ("posthog-test", "1.2.3")
    assert (row["project"], row["token"], row["ip"]) == ("phc_v1", "phc_v1", "127.0.0.1")
    assert (row["person_mode"], row["historical"]) == ("propertyless", True)
    assert row["client_timestamp"] == NOW
    # The client's clock is an hour ahead, so that it happened an hour before it says.
    off = datetime.fromisoformat(NOW) - datetime.fromisoformat(row["timestamp"])
    assert abs(off.total_seconds() - 3600) < 60
    other = rows[plain["uuid"]]
    assert other["distinct_id"] == "ada"
    assert json.loads(other["properties"]) == {"$lib": "posthog-test", "$lib_version": "1.2.3"}


@pytest.mark.parametrize("path", [PATH, PATH + "/", PATH + "?x=1", "/i/v1/ai/events"])
def test_an_attempt_that_comes_again_is_stored_once(running_server, path):
    item = event(f"by {path}")
    for attempt in ("1", "2"):
        answer = post(running_server, envelope(item), path, PostHog_Attempt=attempt)
        assert results(answer) == [(item["uuid"], "ok")]
    # Also what comes again by the older protocol.
    v0 = {"api_key": "phc_v1", "batch": [item]}
    assert running_server.post_json("/batch", v0).status == 200
    assert len(rows_of(running_server, [item, item])) == 1


def raw_deflate(body):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        (None, gzip.compress),
        ("identity", bytes),
    ],
)
def test_codings_are_undone(running_server, encoding, encode):
    item = event()
    body = encode(envelope(item))
    answer = post(running_server, body, Content_Encoding=encoding)
    assert results(answer) == [(item["uuid"], "ok")]


GOOD = envelope(event())
TWICE = event()


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (GOOD, {"Authorization": None}, (401, "missing_authorization")),
        (GOOD, {"Authorization": None, "Content_Type": None}, (401, "missing_authorization")),
        (GOOD, {"Authorization": "Basic cGhj"}, (400, "invalid_header_value")),
        (GOOD, {"Authorization": "Bearer "}, (400, "invalid_header_value")),
        (GOOD, {"Authorization": "Bearer phx_a"}, (401, "invalid_api_token")),
        (GOOD, {"User_Agent": None}, (400, "missing_required_headers")),
        (GOOD, {"PostHog_Sdk_Info": None}, (400, "missing_required_headers")),
        (GOOD, {"PostHog_Attempt": None}, (400, "missing_required_headers")),
        (GOOD, {"PostHog_Request_Id": None}, (400, "missing_required_headers")),
        (GOOD, {"PostHog_Request_Timestamp": None}, (400, "missing_required_headers")),
        (GOOD, {"PostHog_Attempt": "0"}, (400, "invalid_header_value")),
        (GOOD, {"PostHog_Request_Id": "7"}, (400, "invalid_header_value")),
        (GOOD, {"PostHog_Request_Timestamp": "soon"}, (400, "invalid_header_value")),
        (GOOD, {"Content_Type": "text/plain"}, (415, "unsupported_content_type")),
        (GOOD, {"Content_Encoding": "lz4"}, (415, "unsupported_encoding")),
        (b"", {}, (400, "empty_body")),
        (b"\x1f\x8b\x08rubbish", {"Content_Encoding": "gzip"}, (400, "request_decoding_error")),
        (b"no json", {}, (400, "request_parsing_error")),
        (b"[1]", {}, (400, "request_parsing_error")),
        (json.dumps({"batch": [event()]}).encode(), {}, (400, "invalid_batch")),
        (envelope(event(), created_at=7), {}, (400, "invalid_batch")),
        (envelope(), {}, (400, "empty_batch")),
        (envelope(event(uuid=None)), {}, (400, "missing_event_uuid")),
        (envelope(event(uuid="no")), {}, (400, "invalid_event_uuid")),
        (envelope(TWICE, TWICE), {}, (400, "duplicate_event_uuid")),
    ],
)
def test_a_request_that_is_none_is_refused_as_the_protocol_has_it(
    running_server, body, headers, expected
):
    answer = post(running_server, body, **headers)
    assert error(answer) == expected
    told = answer.header("posthog-request-id")
    assert (
        told
        == (HEADERS | {k.replace("_", "-"): v for k, v in headers.items()})["PostHog-Request-Id"]
    )
    assert answer.header("retry-after") is None


def test_named_projects_close_the_door(start):
    server = start(projects='{"shop": {"tokens": ["phc_known"]}}')
    assert error(post(server, GOOD)) == (401, "invalid_api_token")
    item = event()
    answer = post(server, envelope(item), Authorization="bearer  phc_known")
    assert results(answer) == [(item["uuid"], "ok")]
    assert rows_of(server, [item, item])[0]["project"] == "shop"


def test_limits_are_those_of_the_server(start):
    server = start(max_event_bytes=300, max_events_per_request=2, max_decompressed_bytes=2000)
    large = event(properties={"a": "x" * 300})
    item = event()
    answer = post(server, envelope(large, item))
    assert results(answer) == [(large["uuid"], "drop", "event_too_big"), (item["uuid"], "ok")]
    many = envelope(event(), event(), event())
    assert error(post(server, many)) == (413, "payload_too_large")
    bomb = gzip.compress(envelope(event(properties={"a": " " * 3000})))
    assert error(post(server, bomb)) == (413, "payload_too_large")


def test_overload_is_503_with_a_time_to_wait(start):
    mib = 1 << 20
    server = start(max_in_flight_bytes=mib, max_request_bytes=mib, max_recording_bytes=mib)
    head = f"POST /batch HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 20}\r\n\r\n".encode()
    for _ in range(100):
        with socket.create_connection(server.http) as holder:
            # A body that does not end takes most of what all may take together; a new one each
            # time, since it is itself refused if it comes after the request.
            holder.sendall(head + b"x" * (900 << 10))
            answer = post(server, envelope(event(properties={"a": "x" * (500 << 10)})))
        if answer.status != 200:
            break
    assert error(answer) == (503, "service_unavailable")
    assert answer.header("retry-after") == "1"


def test_what_was_injected_survives_a_crash_and_is_in_the_table(start):
    server = start(flush_interval_seconds=3600)
    events = rich_events()
    assert post(server, envelope(*events)).status == 200
    # Read back from the log, by this query and by the next start alike.
    before = rows_of(server, events)
    server.kill()
    assert len(before) == 3
    server = start(flush_interval_seconds=0.1)
    assert rows_of(server, events) == before
    # An attempt after the crash is known.
    assert post(server, envelope(*events), PostHog_Attempt="2").status == 200
    assert server.stop() == 0
    server = start()
    assert rows_of(server, events) == before
    assert server.stop() == 0

    # Built from memory, never read back.
    fresh = start(server.data_dir.parent / "fresh", flush_interval_seconds=0.1)
    assert post(fresh, envelope(*events)).status == 200
    assert fresh.stop() == 0
    fresh = start(server.data_dir.parent / "fresh")
    assert without_clock(rows_of(fresh, events)) == without_clock(before)


def without_clock(rows):
    return [{key: value for key, value in row.items() if key != "timestamp"} for row in rows]


def test_a_replay_goes_by_capture_v1_and_gives_the_same_rows(start, tmp_path):
    server = start(flush_interval_seconds=3600)
    events = rich_events()
    assert post(server, gzip.compress(envelope(*events))).status == 200
    assert post(server, envelope(event("")), PostHog_Sdk_Info="none").status == 200
    plain = [event("without sdk"), event("and another")]
    sdk = {"PostHog_Sdk_Info": "none"}
    assert post(server, envelope(*plain), path="/i/v1/ai/events", **sdk).status == 200
    before = rows_of(server, events) + rows_of(server, plain)

    shown = wal("cat", "--json", "--data-dir", server.data_dir)
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(record["endpoint"], record["accepted"]) for record in records] == [
        ("i/v1/analytics/events", 3),
        ("i/v1/analytics/events", 0),
        ("i/v1/ai/events", 2),
    ]
    assert records[0]["token"] == "phc_v1"
    other = start(tmp_path / "other", flush_interval_seconds=3600)
    for _ in range(2):
        done = wal("replay", "--into", other.http_url, "--data-dir", server.data_dir)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "sent 3 records; last position done: 3",
            "1 record with nothing but refused events among them",
        ]
    after = rows_of(other, events) + rows_of(other, plain)
    differing = {"timestamp", "sent_at"}
    assert [{k: v for k, v in row.items() if k not in differing} for row in after] == [
        {k: v for k, v in row.items() if k not in differing} for row in before
    ]
    for one, two in zip(before, after, strict=True):
        apart = datetime.fromisoformat(one["timestamp"]) - datetime.fromisoformat(two["timestamp"])
        # Corrected by the clock of the moment, so not to the microsecond.
        assert abs(apart.total_seconds()) < 5


def test_a_replay_says_what_the_service_refuses_event_by_event(start, tmp_path):
    server = start(flush_interval_seconds=3600)
    assert post(server, envelope(event(properties={"a": "x" * 300}))).status == 200
    strict = start(tmp_path / "other", max_event_bytes=300)
    done = wal("replay", "--into", strict.http_url, "--data-dir", server.data_dir)
    assert done.returncode == 1
    assert "position 1: the service answered 200: " in done.stderr
    assert "event_too_big" in done.stderr


def wal(*arguments):
    return run_penstock("wal", *arguments)
