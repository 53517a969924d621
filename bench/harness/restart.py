"""How soon a server answers that is started on a log which the tables don't have yet.

Builds the backlog with a server that makes no segments, and ends that with SIGKILL. Then starts one
on it twice: once without seals, so that all of the log is read and decoded before the first answer,
and once with them. The second one brings everything into the table; its peak memory is told.
"""

import dataclasses
import http.client
import json
import os
import shutil
import time
import uuid
from pathlib import Path

from harness.bodies import TOKEN
from harness.load import offer
from harness.scenario import Scenario
from harness.server import Life, Penstock, free_port

BACKLOG_BYTES = int(os.environ.get("PENSTOCK_BENCH_BACKLOG_BYTES", "10000000000"))
SMOKE_BYTES = 50_000_000
WAL_FILE_BYTES = 64 << 20
SMOKE_FILE_BYTES = 4 << 20
# Enough for a hundred bytes of id and filter for each event of the largest backlog.
NO_SEGMENTS = {
    "PENSTOCK_FLUSH_INTERVAL_SECONDS": "86400",
    "PENSTOCK_MAX_WAL_BYTES": str(1 << 40),
}
OFFER_SECONDS = 10.0
POLL_SECONDS = 0.002
PATIENCE_SECONDS = 1800.0
CACHE_READ_BYTES = 8 << 20


def restart(
    scenario: Scenario, program: Path, folder: Path, *, smoke: bool
) -> tuple[dict[str, float], int, Penstock, Life]:
    """Run the scenario; give its numbers, what was acknowledged, and the server that stored it."""
    file_bytes = SMOKE_FILE_BYTES if smoke else WAL_FILE_BYTES
    environment = scenario.environment | {"PENSTOCK_WAL_FILE_BYTES": str(file_bytes)}
    normal = dataclasses.replace(scenario, environment=environment)
    building = dataclasses.replace(scenario, environment=environment | NO_SEGMENTS)

    empty = folder / "empty"
    empty.mkdir()
    empty_seconds, server = _first_accepted(normal, empty)
    server.kill()
    shutil.rmtree(empty)

    acknowledged, backlog_bytes = _build(building, program, folder, smoke=smoke)
    for seal in (folder / "data" / "wal").glob("*.seal"):
        seal.unlink()
    _read_into_the_cache(folder / "data")
    unsealed_seconds, server = _first_accepted(building, folder)
    acknowledged += 1
    try:
        _wait_until_sealed(server, backlog_bytes, file_bytes)
    finally:
        server.kill()

    _read_into_the_cache(folder / "data")
    sealed_seconds, server = _first_accepted(normal, folder)
    acknowledged += 1
    began = time.monotonic()
    try:
        while server.metric("penstock_wal_backlog_bytes") > 0:
            _check_patience(began)
            time.sleep(0.1)
        replay_seconds = time.monotonic() - began
        life = server.stop()
    finally:
        server.kill()
    row = {
        "backlog_gigabytes": backlog_bytes / 1e9,
        "backlog_events": float(acknowledged),
        "empty_first_accept_seconds": empty_seconds,
        "unsealed_first_accept_seconds": unsealed_seconds,
        "first_accept_seconds": sealed_seconds,
        "unsealed_gigabytes_per_second": backlog_bytes / 1e9 / unsealed_seconds,
        "replay_seconds": replay_seconds,
        "replay_events_per_second": acknowledged / replay_seconds,
    }
    return row, acknowledged, server, life


def _build(scenario: Scenario, program: Path, folder: Path, *, smoke: bool) -> tuple[int, float]:
    wanted = SMOKE_BYTES if smoke else BACKLOG_BYTES
    server = Penstock(scenario, folder)
    try:
        acknowledged = space = 0
        while server.metric("penstock_wal_backlog_bytes") < wanted:
            seconds = scenario.seconds if smoke else OFFER_SECONDS
            target = server.target(scenario.protocol)
            acknowledged += offer(
                program, scenario, target, server.pid, seconds=seconds, id_space=space
            ).events
            space += 1
        return acknowledged, server.metric("penstock_wal_backlog_bytes")
    finally:
        server.kill()


def _wait_until_sealed(server: Penstock, backlog_bytes: float, file_bytes: int) -> None:
    began = time.monotonic()
    # The last file is open, and no file is filled to its last byte.
    wanted = max(1, int(backlog_bytes / file_bytes) - 1)
    while server.metric("penstock_wal_sealed_files_total") < wanted:
        _check_patience(began)
        time.sleep(0.05)


def _first_accepted(scenario: Scenario, folder: Path) -> tuple[float, Penstock]:
    """Start a server and send it one event until it takes it; time since the process began."""
    port = free_port()
    began = time.monotonic()
    # A restart has the machine to itself: both cores.
    server = Penstock(scenario, folder, http_port=port, pinned=False)
    event = {"uuid": str(uuid.uuid4()), "event": "first", "distinct_id": "restart"}
    body = json.dumps({"api_key": TOKEN, "batch": [event]})
    try:
        while not _is_taken(port, body):
            server.check_running()
            _check_patience(began)
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - began
        server.wait_until_ready()
    except BaseException:
        server.kill()
        raise
    return seconds, server


def _check_patience(began: float) -> None:
    if time.monotonic() - began > PATIENCE_SECONDS:
        message = f"nothing more came in {PATIENCE_SECONDS:.0f} s"
        raise SystemExit(message)


def _is_taken(port: int, body: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/batch/", body)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        # Before the port is open.
        return False
    finally:
        connection.close()
    if answer.status not in {200, 503}:
        message = f"the first event was answered with {answer.status}"
        raise SystemExit(message)
    return answer.status == 200


def _read_into_the_cache(data: Path) -> None:
    """The log keeps its pages out of the cache; a restart is timed with them there."""
    for path in [*(data / "wal").iterdir(), *(data / "dedup").iterdir()]:
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(CACHE_READ_BYTES):
                    pass
