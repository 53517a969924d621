"""`penstock wal replay --into PATH`: a log taken into another data directory, each record once."""

import gzip
import json
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from support.server import RunningServer, clean_environment, run_query

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

TOKEN = "phc_import"
NEVER_FLUSHED: dict[str, Any] = {"flush_interval_seconds": 3600}
# All but the place in the log, which is another one.
SAME = (
    "project, date, uuid, event, distinct_id, timestamp, received_at, sent_at, client_timestamp, "
    "properties, token, ip, historical, batch_index"
)


def environment(**settings: object) -> dict[str, str]:
    return clean_environment(disk_reserve_bytes=0, **settings)


def replay(
    source: Path, target: object, *options: object, **settings: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(source, target, *options),
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def command(source: Path, target: object, *options: object) -> list[str]:
    arguments = ["wal", "replay", "--into", target, "--data-dir", source, *options]
    return [sys.executable, "-m", "penstock", *map(str, arguments)]


def fill(server: RunningServer, count: int, letter: str = "e") -> None:
    """Send requests of an event with an id, one without, and one that is refused."""
    for number in range(count):
        batch = [
            {"event": f"{letter}{number}", "distinct_id": "ada", "uuid": str(uuid.uuid4())},
            {"event": f"{letter}{number} without id", "distinct_id": "ada"},
            {"event": f"{letter}{number} refused"},
        ]
        body = json.dumps({"api_key": TOKEN, "batch": batch}).encode()
        sent = gzip.compress(body) if number % 2 else body
        assert server.request("POST", "/batch", body=sent).status == 200


def rows(data_dir: Path, table: str = "events", columns: str = SAME) -> list[dict[str, Any]]:
    order = "event" if table == "events" else "detail, raw"
    return run_query(data_dir, f"SELECT {columns} FROM {table} ORDER BY {order}", environment())


REFUSED = "date, received_at, project, token, endpoint, reason, detail, raw, batch_index"


def new_directory(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_log_comes_out_as_it_was_taken_and_only_once(start: StartServer, tmp_path: Path) -> None:
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    fill(server, 20)
    server.kill()
    target = new_directory(tmp_path / "target")
    done = replay(source, target)
    assert done.returncode == 0, done.stderr
    assert "took in 20 records with 40 events and 0 duplicates" in done.stdout
    assert "last position done: 20" in done.stdout
    assert rows(target) == rows(source)
    assert len(rows(target)) == 40
    assert rows(target, "rejected", REFUSED) == rows(source, "rejected", REFUSED)
    again = replay(source, target)
    assert again.returncode == 0, again.stderr
    assert "took in 0 records" in again.stdout
    assert "20 records taken in before" in again.stdout
    assert len(rows(target)) == 40
    # The target's own server goes on from there.
    server = start(target, **NEVER_FLUSHED)
    fill(server, 1, "own")
    assert server.stop() == 0
    assert len(rows(target)) == 42


def test_a_log_that_has_grown_is_taken_in_from_where_it_ended(
    start: StartServer, tmp_path: Path
) -> None:
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    target = new_directory(tmp_path / "target")
    fill(server, 4)
    # Its own server may run: only the other directory's must not.
    assert replay(source, target).returncode == 0
    fill(server, 3, "more")
    server.kill()
    server = start(**NEVER_FLUSHED)
    fill(server, 2, "another lane")
    server.kill()
    done = replay(source, target)
    assert "took in 5 records with 10 events" in done.stdout
    assert "4 records taken in before" in done.stdout
    assert rows(target) == rows(source)


def test_ranges_may_be_taken_in_in_any_order(start: StartServer, tmp_path: Path) -> None:
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    fill(server, 9)
    server.kill()
    target = new_directory(tmp_path / "target")
    for first, last in ((4, 6), (8, 8), (1, 5)):
        done = replay(source, target, "--from", first, "--to", last)
        assert done.returncode == 0, done.stderr
    assert len(rows(target)) == 2 * 7
    assert replay(source, target).returncode == 0
    assert rows(target) == rows(source)


def test_events_that_the_other_directory_has_are_duplicates(
    start: StartServer, tmp_path: Path
) -> None:
    # A server is gone; its clients sent their last batch again, to the one that took its place.
    batch = {
        "api_key": TOKEN,
        "batch": [{"event": "sent twice", "distinct_id": "ada", "uuid": str(uuid.uuid4())}],
    }
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    assert server.post_json("/batch", batch).status == 200
    server.kill()
    other = start(tmp_path / "other", **NEVER_FLUSHED)
    assert other.post_json("/batch", batch).status == 200
    assert other.stop() == 0
    done = replay(source, other.data_dir)
    assert done.returncode == 0, done.stderr
    assert "took in 1 record with 0 events and 1 duplicate" in done.stdout
    assert [row["event"] for row in rows(other.data_dir)] == ["sent twice"]


@pytest.mark.parametrize("point", ["wal_group_synced", "cut_built", "commit_written"])
def test_a_crash_in_the_middle_is_gone_on_from(
    start: StartServer, tmp_path: Path, point: str
) -> None:
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    fill(server, 600)
    server.kill()
    target = new_directory(tmp_path / "target")
    cut = replay(source, target, crash_at=point)
    assert cut.returncode == -signal.SIGKILL, cut.stderr
    done = replay(source, target)
    assert done.returncode == 0, done.stderr
    # Events without ids and refused ones too.
    assert rows(target) == rows(source)
    assert rows(target, "rejected", REFUSED) == rows(source, "rejected", REFUSED)


def test_a_kill_at_any_moment_is_gone_on_from(start: StartServer, tmp_path: Path) -> None:
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    fill(server, 1_500)
    server.kill()
    target = new_directory(tmp_path / "target")
    for seconds in (0.6, 0.9, 1.2, 1.5):
        with subprocess.Popen(
            command(source, target), env=environment(), stdout=subprocess.DEVNULL
        ) as process:
            # It may have ended by then, which `kill` knows.
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            process.wait(60)
            timer.cancel()
            if process.returncode == 0:
                break
    assert replay(source, target).returncode == 0
    assert rows(target) == rows(source)
    assert len(rows(target, "rejected", REFUSED)) == 1_500


def test_what_is_in_use_is_exit_3_and_what_is_the_same_is_refused(
    start: StartServer, tmp_path: Path
) -> None:
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    fill(server, 1)
    other = start(tmp_path / "other", **NEVER_FLUSHED)
    in_use = replay(source, other.data_dir)
    assert in_use.returncode == 3
    assert "in use" in in_use.stderr
    assert server.stop() == 0
    same = replay(source, source)
    assert same.returncode == 1
    assert "is the directory that is read from" in same.stderr
    nothing = replay(source, "127.0.0.1:8000")
    assert nothing.returncode == 3
    assert "nor a URL" in nothing.stderr


def test_a_small_log_limit_is_no_end(start: StartServer, tmp_path: Path) -> None:
    # More than the other directory's log may hold at a time: what is marked is let go meanwhile.
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    padding = {"padding": "x" * 30_000}
    for number in range(200):
        event = {"event": f"e{number}", "distinct_id": "ada", "properties": padding}
        assert server.post_json("/batch", {"api_key": TOKEN, "batch": [event]}).status == 200
    server.kill()
    target = new_directory(tmp_path / "target")
    limits = {
        "max_request_bytes": 1 << 20,
        "max_recording_bytes": 1 << 20,
        "max_wal_bytes": 4 << 20,
        "wal_file_bytes": 64 << 10,
        "flush_interval_seconds": 0.1,
    }
    done = replay(source, target, **limits)
    assert done.returncode == 0, done.stderr
    assert rows(target) == rows(source)


def test_tables_that_are_not_as_they_were_left_take_nothing_in(
    start: StartServer, tmp_path: Path
) -> None:
    server = start(**NEVER_FLUSHED)
    source = server.data_dir
    fill(server, 1)
    server.kill()
    other = start(tmp_path / "other", **NEVER_FLUSHED)
    fill(other, 1)
    assert other.stop() == 0
    shutil.rmtree(other.data_dir / "events")
    refused = replay(source, other.data_dir)
    assert refused.returncode == 1
    assert "are not as they were left: table_missing; see penstock table info" in refused.stderr
