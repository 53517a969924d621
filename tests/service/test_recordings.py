"""Uploads of session replay to a real server: in the log at once, then in a table of their own."""

import base64
import gzip
import json
import shutil
import time
import uuid
from datetime import datetime
from urllib.parse import quote

import duckdb
import polars
import pytest
from deltalake import DeltaTable

from penstock.tools.wal_quarantine import stored_events
from support.command import run_penstock

pytestmark = pytest.mark.service

OK = b'{"status":"Ok"}'
HIVE = "hive_partitioning = true, hive_types = {project: VARCHAR, date: DATE}"


def snapshot(session="session-1", **more):
    """A snapshot event as web SDKs send it."""
    properties = {
        "token": "phc_replay",
        "$session_id": session,
        "$window_id": f"{session}-window",
        "$lib": "web",
        # What a page's own gzip makes: any code point up to U+00FF, NUL among them.
        "$snapshot_data": [{"type": 2, "data": "\x1f\x8b\x00\u00ff\U0001f600"}],
        "distinct_id": "ada",
    }
    properties |= more.pop("properties", {})
    event = {"uuid": str(uuid.uuid4()), "event": "$snapshot", "properties": properties}
    return event | {"timestamp": "2026-03-04T05:06:07.123Z"} | more


def dumped(*snapshots):
    return json.dumps(snapshots).encode()


def test_an_upload_is_found_at_once_and_read_by_every_engine_after_its_flush(start):
    server = start(flush_interval_seconds=3600)
    sent = [snapshot(f"session-{number % 2}") for number in range(10)]
    for one, two in zip(sent[::2], sent[1::2], strict=True):
        answer = server.request("POST", "/s/", body=gzip.compress(dumped(one, two)))
        assert (answer.status, answer.body) == (200, OK)
    sql = "SELECT uuid, session_id, window_id, project, properties FROM recordings"
    expected = {
        event["uuid"]: {
            "session_id": event["properties"]["$session_id"],
            "window_id": event["properties"]["$window_id"],
            "project": "phc_replay",
        }
        for event in sent
    }

    def check(rows):
        found = {row["uuid"]: {name: row[name] for name in expected[row["uuid"]]} for row in rows}
        assert found == expected
        assert len(rows) == len(sent)
        for row in rows:
            (event,) = (event for event in sent if event["uuid"] == row["uuid"])
            assert json.loads(row["properties"]) == event["properties"]

    check(server.query(sql))
    # Only the log has them yet.
    assert not (server.data_dir / "recordings").exists()
    assert server.stop() == 0, server.log()

    table = DeltaTable(server.data_dir / "recordings")
    assert table.metadata().partition_columns == ["project", "date"]
    check(table.to_pyarrow_table().to_pylist())
    check(polars.scan_delta(str(server.data_dir / "recordings")).collect().to_dicts())
    rows = duckdb.execute(
        f"SELECT uuid, session_id, window_id, project, properties FROM read_parquet(?, {HIVE})",
        [table.file_uris()],
    )
    names = [column[0] for column in rows.description]
    check([dict(zip(names, row, strict=True)) for row in rows.fetchall()])
    check(server.query(sql))
    # By statistics and by partition, as a reader of one session would.
    day = polars.scan_delta(str(server.data_dir / "recordings")).filter(
        polars.col("project") == "phc_replay",
        polars.col("date") == datetime.fromisoformat("2026-03-04").date(),
        polars.col("session_id") == "session-1",
    )
    assert len(day.collect()) == 5
    assert server.query("SELECT count(*) AS n FROM events") == [{"n": 0}]


def test_a_snapshot_that_names_no_library_is_of_the_one_that_sends_it(start):
    server = start(flush_interval_seconds=3600)
    for agent in (b"posthog-ios/3.69.3", b"curl/8", None):
        one = snapshot(properties={"$lib": None, "$session_id": str(agent)[2:6].strip("/.")})
        headers = [] if agent is None else [("User-Agent", agent.decode())]
        body = dumped(one)
        assert server.request("POST", "/s", body=body, headers=headers).status == 200
    sql = "SELECT lib, lib_version FROM recordings ORDER BY log_position"
    expected = [
        {"lib": "posthog-ios", "lib_version": "3.69.3"},
        {"lib": "web", "lib_version": None},
        {"lib": "web", "lib_version": None},
    ]
    assert server.query(sql) == expected
    # Also what is read back from the log.
    assert server.stop() == 0, server.log()
    assert server.query(sql) == expected


def test_a_bad_snapshot_costs_its_neighbours_nothing_and_says_why(start):
    server = start(flush_interval_seconds=0.1)
    good = snapshot()
    bad = snapshot(properties={"$session_id": "no such id!"})
    empty = snapshot(properties={"$snapshot_data": None})
    assert server.request("POST", "/s", body=dumped(bad, good, empty)).status == 200
    refused = server.request("POST", "/s", body=dumped(empty))
    assert refused.status == 400
    text = b"replay event submitted without snapshot data: event 0: missing_snapshot_data"
    assert refused.body == text
    assert server.stop() == 0, server.log()
    assert server.query("SELECT uuid FROM recordings") == [{"uuid": good["uuid"]}]
    rows = server.query("SELECT uuid, reason, endpoint FROM rejected ORDER BY log_position, uuid")
    assert sorted((row["uuid"], row["reason"]) for row in rows) == sorted(
        [
            (bad["uuid"], "invalid_session_id"),
            (empty["uuid"], "missing_snapshot_data"),
            (empty["uuid"], "missing_snapshot_data"),
        ]
    )
    assert {row["endpoint"] for row in rows} == {"s"}


def test_an_upload_sent_again_is_stored_once_also_after_a_crash(start):
    body = gzip.compress(dumped(snapshot(), snapshot()))
    server = start(flush_interval_seconds=3600)
    assert [server.request("POST", "/s/", body=body).status for _ in range(2)] == [200, 200]
    server.kill()
    server = start(flush_interval_seconds=0.1)
    assert server.request("POST", "/s/", body=body).status == 200
    assert server.query("SELECT count(*) AS n FROM recordings") == [{"n": 2}]
    assert server.stop() == 0, server.log()
    assert len(DeltaTable(server.data_dir / "recordings").to_pyarrow_table()) == 2
    assert server.query("SELECT count(*) AS n FROM recordings") == [{"n": 2}]


@pytest.mark.parametrize(
    ("target", "form", "headers"),
    [
        ("/s/?compression=gzip-js", gzip.compress, []),
        ("/s/?", gzip.compress, [("Content-Encoding", "gzip")]),
        ("/s/?compression=base64", base64.b64encode, []),
        (
            "/s/?compression=base64&beacon=1",
            lambda body: b"data=" + quote(base64.b64encode(body)).encode(),
            [("Content-Type", "application/x-www-form-urlencoded")],
        ),
        ("/s", bytes, [("Content-Type", "application/json")]),
    ],
)
def test_an_upload_may_come_as_sdks_send_their_events(running_server, target, form, headers):
    event = snapshot()
    answer = running_server.request("POST", target, body=form(dumped(event)), headers=headers)
    beacon = "beacon=1" in target
    assert (answer.status, answer.body) == ((204, b"") if beacon else (200, OK))
    sql = f"SELECT session_id FROM recordings WHERE uuid = '{event['uuid']}'"
    assert running_server.query(sql) == [{"session_id": "session-1"}]


def test_snapshots_that_come_by_other_endpoints_are_events(running_server):
    event = snapshot()
    body = {"api_key": "phc_replay", "batch": [event]}
    assert running_server.post_json("/batch/", body).status == 200
    for table, count in (("events", 1), ("recordings", 0)):
        sql = f"SELECT count(*) AS n FROM {table} WHERE uuid = '{event['uuid']}'"
        assert running_server.query(sql) == [{"n": count}]


def test_uploads_have_a_limit_of_their_own(start):
    at_limit = dumped(snapshot(properties={"padding": "x" * 4000}))
    server = start(max_request_bytes=2000, max_recording_bytes=len(at_limit), max_event_bytes=2000)
    assert server.request("POST", "/s/", body=at_limit).status == 200
    over = server.request("POST", "/s/", body=at_limit + b" ")
    assert (over.status, over.body) == (413, b"maximum event size exceeded: request body")
    assert server.request("POST", "/e/", body=at_limit).status == 413
    assert server.query("SELECT count(*) AS n FROM recordings") == [{"n": 1}]


def test_a_large_upload_and_the_depth_of_a_page_are_taken(start):
    server = start(flush_interval_seconds=0.1)
    # Above what any other endpoint takes, by bytes and by depth.
    tree = "{" + '"childNodes":[{' * 300 + "}]" * 300 + "}"
    text = json.dumps([snapshot(properties={"padding": "x" * (24 << 20)})])
    body = text.replace('"type": 2', f'"type": 2, "node": {tree}').encode()
    assert server.request("POST", "/s/", body=body).status == 200
    assert server.stop() == 0, server.log()
    sql = "SELECT length(properties) > 24 * 1024 * 1024 AS whole FROM recordings"
    assert server.query(sql) == [{"whole": True}]


def test_a_directory_without_recordings_goes_on_with_them(start):
    server = start(flush_interval_seconds=0.1)
    event = {"api_key": "phc_replay", "event": "before", "distinct_id": "ada"}
    assert server.post_json("/e", event).status == 200
    assert server.stop() == 0, server.log()
    assert not (server.data_dir / "recordings").exists()
    assert "recordings" not in (server.data_dir / "wal" / "tables.json").read_text()
    assert server.query("SELECT * FROM recordings") == []

    server = start(flush_interval_seconds=0.1)
    assert server.request("POST", "/s", body=dumped(snapshot())).status == 200
    assert server.post_json("/e", event | {"event": "after"}).status == 200
    assert server.stop() == 0, server.log()
    assert len(DeltaTable(server.data_dir / "recordings").to_pyarrow_table()) == 1
    found = server.query("SELECT event FROM events ORDER BY event")
    assert found == [{"event": "after"}, {"event": "before"}]
    # And once more with the table there.
    assert start().stop() == 0


def test_a_replay_of_the_log_gives_the_same_snapshots_at_the_same_times(start, tmp_path):
    server = start(flush_interval_seconds=3600)
    # The client's clock is an hour behind.
    behind = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    for body in (
        dumped(snapshot(timestamp=behind, sent_at=behind), snapshot(timestamp=behind)),
        json.dumps(snapshot(timestamp=behind, sent_at=behind)).encode(),
        dumped(snapshot(timestamp=behind)),
    ):
        assert server.request("POST", "/s/", body=gzip.compress(body)).status == 200
    rows = "SELECT uuid, properties, timestamp FROM recordings ORDER BY uuid"
    expected = server.query(rows)
    assert len(expected) == 4
    assert server.stop() == 0
    other = start(tmp_path / "other")
    command(server, "wal", "replay", "--into", other.http_url)
    found = other.query(rows)
    assert [(row["uuid"], row["properties"]) for row in found] == [
        (row["uuid"], row["properties"]) for row in expected
    ]
    for one, two in zip(found, expected, strict=True):
        apart = datetime.fromisoformat(one["timestamp"]) - datetime.fromisoformat(two["timestamp"])
        assert abs(apart.total_seconds()) < 5


def command(server, *arguments):
    """Run a command on the data directory of a server."""
    done = run_penstock(*arguments, "--data-dir", server.data_dir, environment=server.environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_snapshots_that_are_stored_are_found_by_who_brings_a_record_back(start):
    # Else a record out of the quarantine would store them once more.
    server = start(flush_interval_seconds=3600)
    stored, unknown = snapshot(), snapshot()
    assert server.request("POST", "/s", body=dumped(stored)).status == 200
    asked = [
        (index, event["uuid"], "$snapshot", "ada") for index, event in enumerate([unknown, stored])
    ]
    assert stored_events(server.data_dir, asked) == [1]
    assert server.stop() == 0
    assert stored_events(server.data_dir, asked) == [1]


@pytest.mark.parametrize(("believe", "rows"), [("transactions", 2), ("note", 1)])
def test_a_table_that_is_gone_may_be_adopted(start, believe, rows):
    server = start(flush_interval_seconds=0.1)
    assert server.request("POST", "/s", body=dumped(snapshot())).status == 200
    assert server.stop() == 0, server.log()
    shutil.rmtree(server.data_dir / "recordings")
    adopted = command(server, "table", "adopt", "recordings", "--believe", believe)
    assert f"recordings: adopted, believing its {believe}" in adopted
    server = start(flush_interval_seconds=0.1)
    assert server.request("POST", "/s", body=dumped(snapshot())).status == 200
    assert server.stop() == 0
    assert "event=commits_held" not in server.log()
    assert len(DeltaTable(server.data_dir / "recordings").to_pyarrow_table()) == rows


def test_a_table_that_is_not_made_yet_is_no_fault(start):
    server = start()
    assert "recordings: not made yet" in command(server, "table", "info")
