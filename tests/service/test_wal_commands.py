"""`penstock wal` on the data directory of a real server: live, killed, damaged, and replayed."""

import asyncio
import base64
import gzip
import json
import threading
import time
import urllib.parse
import uuid
from datetime import datetime
from pathlib import Path

import pytest

from durability.waiting import until
from penstock import _core
from penstock.client import AsyncIngestClient
from support.command import run_penstock
from support.log_records import RECEIVED_AT_US, quarantine_file, record_context

pytestmark = pytest.mark.service

TOKEN = "phc_wal_commands"


def wal(*arguments, **environment):
    """Run the command; its exit code, output and errors."""
    return run_penstock("wal", *arguments, environment=environment)


def fsck(data_dir, *options):
    done = wal("fsck", "--data-dir", data_dir, "--json", *options)
    return done.returncode, json.loads(done.stdout), done.stderr


def cat(data_dir, *options):
    done = wal("cat", "--data-dir", data_dir, "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def event(name, **fields):
    return {"event": name, "distinct_id": "lovelace", "uuid": str(uuid.uuid4())} | fields


def send(server, count, start=0):
    """Send requests of two events each; the names of the events."""
    names = []
    for number in range(start, start + count):
        batch = [event(f"e{number}a"), event(f"e{number}b", timestamp="2026-01-02T03:04:05Z")]
        answer = server.post_json("/batch", {"api_key": TOKEN, "batch": batch})
        assert answer.status == 200
        names += [item["event"] for item in batch]
    return names


def test_a_live_and_a_killed_log_are_whole_and_nothing_is_changed(start):
    server = start(flush_interval_seconds=3600)
    send(server, 10)
    code, live, _ = fsck(server.data_dir)
    assert (code, live["summary"]["whole"], live["summary"]["records"]) == (0, True, 10)
    assert live["summary"]["first_position"] == live["files"][0]["first_position"] == 1

    server.kill()
    before = {path: path.stat().st_mtime_ns for path in (server.data_dir / "wal").rglob("*")}
    code, killed, errors = fsck(server.data_dir)
    assert (code, errors) == (0, "")
    assert killed["summary"] == live["summary"]
    after = {path: path.stat().st_mtime_ns for path in (server.data_dir / "wal").rglob("*")}
    assert after == before

    text = wal("fsck", "--data-dir", server.data_dir)
    assert text.returncode == 0
    assert text.stdout.splitlines()[-1].startswith("whole; 1 file, 1 lane, 10 records, ")


def test_a_log_under_load_is_never_called_damaged(start):
    # Files are filled, released and recycled under the look.
    server = start(flush_interval_seconds=0.1, wal_file_bytes=1 << 20)
    padding = "x" * 100_000
    stop = threading.Event()
    statuses = []

    def load():
        while not stop.is_set():
            item = event("filler", properties={"padding": padding})
            answer = server.post_json("/e", item | {"api_key": TOKEN})
            statuses.append(answer.status)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        newest = looks = 0
        # 1 MiB files of 100 kB records: several lives of every file.
        while newest < 150:
            reader = _core.LogReader(str(server.data_dir), 1, (1 << 64) - 1)
            while (file := reader.next_file()) is not None:
                told = [(one.file, one.why, one.first_byte) for one in file.damage]
                assert told == []
                newest = max(newest, file.last_position)
            looks += 1
    finally:
        stop.set()
        thread.join()
    assert looks > 10
    # A commit of what came last may still be under way.
    until(lambda: len(list((server.data_dir / "wal").glob("*.wal"))) < 10, "releases", server)
    assert set(statuses) == {200}


def test_damage_is_told_repaired_and_survived_by_the_next_start(start):
    server = start(flush_interval_seconds=3600)
    names = send(server, 10)
    server.kill()
    # With its quote: the three characters alone may also stand in an id.
    name = b'"e4a"'
    (file,) = [
        path for path in (server.data_dir / "wal").glob("*.wal") if name in path.read_bytes()
    ]
    content = bytearray(file.read_bytes())
    at = content.index(name) + 1
    content[at] ^= 1
    file.write_bytes(content)

    code, told, _ = fsck(server.data_dir)
    assert code == 1
    (damage,) = [damage for item in told["files"] for damage in item["damage"]]
    assert damage["first_byte"] <= at <= damage["last_byte"]
    assert (damage["first_position"], damage["last_position"]) == (5, 5)
    _, warnings = cat(server.data_dir)
    assert "positions 5 to 5 are missing" in warnings

    code, told, _ = fsck(server.data_dir, "--repair")
    assert code == 1
    (kept,) = told["repair"]["kept_aside"]
    assert (kept["first_byte"], kept["last_byte"]) == (damage["first_byte"], damage["last_byte"])
    assert (
        bytes(content[damage["first_byte"] : damage["last_byte"] + 1])
        == Path(kept["kept_aside"]).read_bytes()
    )
    assert file.exists()

    # Before the first commit a query reads them from the log, which has no file behind that one.
    for flush_interval_seconds in (3600, 0.1):
        restarted = start(flush_interval_seconds=flush_interval_seconds)
        found = [row["event"] for row in restarted.query("SELECT event FROM events")]
        assert sorted(found) == sorted(set(names) - {"e4a", "e4b"})
        assert restarted.stop() == 0


def test_repair_is_refused_while_a_server_runs(start):
    server = start()
    done = wal("fsck", "--repair", "--data-dir", server.data_dir)
    assert done.returncode == 3
    assert "in use" in done.stderr


def test_no_data_directory_is_exit_3(tmp_path):
    for arguments in (["fsck"], ["cat"], ["quarantine", "list"], ["fsck", "--repair"]):
        done = wal(*arguments, "--data-dir", tmp_path)
        assert (done.returncode, done.stdout.count("whole")) == (3, 0), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_cat_adds_up_to_what_was_sent_and_shows_no_payload(start):
    server = start(flush_interval_seconds=3600)
    send(server, 5)
    repeated = event("twice")
    batch = [repeated, repeated, {"event": "nobody"}]
    body = gzip.compress(json.dumps({"api_key": TOKEN, "batch": batch}).encode())
    assert server.request("POST", "/e", body=body).status == 200

    lines, _ = cat(server.data_dir)
    assert [line["position"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert sum(line["accepted"] for line in lines) == 11
    assert [sum(line[name] for line in lines) for name in ("duplicate", "rejected")] == [1, 1]
    last = lines[-1]
    assert (last["endpoint"], last["coding"], last["payload_bytes"]) == ("e", "gzip", len(body))
    assert last["token"] == TOKEN[:8] + "…"
    assert [line["position"] for line in cat(server.data_dir, "--from", 3, "--to", 4)[0]] == [3, 4]

    plain = wal("cat", "--data-dir", server.data_dir)
    assert len(plain.stdout.splitlines()) == 6
    assert TOKEN not in plain.stdout
    assert "lovelace" not in plain.stdout
    payload = wal("cat", "--data-dir", server.data_dir, "--payload", 6)
    assert json.loads(payload.stdout)["batch"] == batch
    missing = wal("cat", "--data-dir", server.data_dir, "--payload", 99)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no record at position 99" in missing.stderr


ROWS = "SELECT uuid, event, distinct_id, properties, timestamp FROM events ORDER BY uuid"


def test_a_replay_gives_the_same_rows_and_a_second_one_none(start, tmp_path):
    server = start(flush_interval_seconds=3600)
    send(server, 5)
    # A clock that is an hour behind: timestamps are corrected by it, on both servers alike.
    behind = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    clocks = {"api_key": TOKEN, "sent_at": behind, "batch": [event("late", timestamp=behind)]}
    body = gzip.compress(json.dumps(clocks).encode())
    assert server.request("POST", "/batch", body=body).status == 200
    only_refused = {"api_key": TOKEN, "batch": [{"event": "nobody"}]}
    assert server.post_json("/batch", only_refused).status == 400
    expected = server.query(ROWS)
    assert server.stop() == 0
    assert len(expected) == 11

    other = start(tmp_path / "other", flush_interval_seconds=0.1)
    # By then the tables have the rows, but the log keeps its newest file.
    done = wal("replay", "--into", other.http_url, "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "sent 7 records; last position done: 7",
        "1 record with nothing but refused events among them",
    ]
    found = other.query(ROWS)
    assert [without_time(row) for row in found] == [without_time(row) for row in expected]
    # Corrected by the clock of the moment, so not to the microsecond.
    assert seconds_apart(found, expected) < 2

    again = wal("replay", "--into", other.http_url, "--data-dir", server.data_dir)
    assert again.returncode == 0, again.stderr
    assert len(other.query(ROWS)) == 11
    part = wal("replay", "--into", other.http_url, "--from", 7, "--data-dir", server.data_dir)
    assert part.stdout.startswith("sent 1 record; last position done: 7\n")


def without_time(row):
    return {name: value for name, value in row.items() if name != "timestamp"}


def seconds_apart(found, expected):
    def moment(row):
        return datetime.fromisoformat(row["timestamp"])

    # Those that named no time have that of their receipt.
    pairs = [
        (one, two)
        for one, two in zip(found, expected, strict=True)
        if one["event"][-1] == "b" or one["event"] == "late"
    ]
    assert len(pairs) == 6
    return max(abs((moment(one) - moment(two)).total_seconds()) for one, two in pairs)


def test_a_replay_stops_at_what_the_service_refuses(start, tmp_path):
    server = start(flush_interval_seconds=3600)
    send(server, 2)
    config = tmp_path / "closed.toml"
    config.write_text('[projects.other]\ntokens = ["phc_other"]\n')
    closed = start(tmp_path / "other", args=("--config", str(config)))
    done = wal("replay", "--into", closed.http_url, "--data-dir", server.data_dir)
    assert done.returncode == 1
    assert "position 1: the service answered 401: " in done.stderr
    assert "no position done" in done.stderr
    nobody = wal("replay", "--into", "http://127.0.0.1:9", "--data-dir", server.data_dir)
    assert nobody.returncode == 1
    assert "can't be reached" in nobody.stderr


def test_a_record_of_grpc_is_replayed_by_http(start, tmp_path):
    server = start(flush_interval_seconds=3600)

    async def append():
        async with AsyncIngestClient(server.grpc_target, token=TOKEN) as client:
            await client.append([event("by grpc")])

    asyncio.run(append())
    other = start(tmp_path / "other", flush_interval_seconds=3600)
    done = wal("replay", "--into", other.http_url, "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr
    sql = "SELECT event, token FROM events"
    assert other.query(sql) == server.query(sql) == [{"event": "by grpc", "token": TOKEN}]


def test_records_made_text_by_their_clients_are_replayed(start, tmp_path):
    server = start(flush_interval_seconds=3600)
    plain = json.dumps({"api_key": TOKEN, "batch": [event("as text")]}).encode()
    text = base64.b64encode(plain)
    for body in (text, b"data=" + urllib.parse.quote_from_bytes(text, safe="").encode()):
        assert server.request("POST", "/e", body=body).status == 200
    shown = wal("cat", "--json", "--data-dir", server.data_dir)
    assert [json.loads(line)["coding"] for line in shown.stdout.splitlines()] == ["base64", "form"]
    other = start(tmp_path / "other", flush_interval_seconds=3600)
    done = wal("replay", "--into", other.http_url, "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr
    assert other.query("SELECT event FROM events") == [{"event": "as text"}]


def test_a_record_in_quarantine_is_listed_brought_back_and_kept(start):
    server = start(flush_interval_seconds=3600)
    known = event("known")
    assert server.post_json("/batch", {"api_key": TOKEN, "batch": [known]}).status == 200
    aside = []
    for position, item in ((7, event("set aside")), (8, known)):
        body = json.dumps({"api_key": TOKEN, "batch": [item]}).encode()
        context = record_context("website", 1, RECEIVED_AT_US)
        aside.append(quarantine_file(server.data_dir, position, context, body))

    listed = wal("quarantine", "list", "--json", "--data-dir", server.data_dir)
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)
    assert [(row["position"], row["why"], row["accepted"]) for row in rows] == [
        (7, "a test says so", 1),
        (8, "a test says so", 1),
    ]
    assert "lovelace" not in listed.stdout

    # The server has the second one's id in its window: it answers 200 and stores nothing.
    done = wal("quarantine", "retry", "--into", server.http_url, "--data-dir", server.data_dir)
    assert done.returncode == 1
    assert "kept: position 8: 1 of 1 event counted as duplicates" in done.stderr
    assert "1 record brought back, 1 kept" in done.stdout
    first, second = aside
    assert not first.exists()
    assert (first.parent / "done" / first.name).exists()
    assert second.exists()
    found = server.query("SELECT event FROM events ORDER BY event")
    assert found == [{"event": "known"}, {"event": "set aside"}]
    again = wal("quarantine", "list", "--data-dir", server.data_dir)
    assert "(1 row)" in again.stdout
    assert server.stop() == 0

    without = start(dedup_window_seconds=0)
    done = wal("quarantine", "retry", "--into", without.http_url, "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr
    assert not second.exists()
