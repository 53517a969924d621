"""A file of ids rots under a running server (DUP-1).

Requests that need it are refused until it is set aside, and then its ids are as good as new. A read
that fails only once needs a disk that fails: `simulation/histories/storage.rs`.
"""

import uuid

import pytest

from conftest import StartServer
from durability.waiting import until

pytestmark = pytest.mark.service

# More than one generation of ids at 1 MiB of memory.
EVENTS = 6_000
BLOCK_BYTES = 4096
OTHERS = 20


def body_of(count: int) -> dict[str, object]:
    events = [
        {"event": "counted", "distinct_id": "ada", "uuid": str(uuid.uuid4())} for _ in range(count)
    ]
    return {"api_key": "phc_damaged_ids", "batch": events}


def test_repeats_are_refused_until_a_rotten_file_of_ids_is_set_aside(start: StartServer) -> None:
    server = start(dedup_memory_bytes="1MiB", flush_interval_seconds=0.1)
    first = body_of(EVENTS)
    assert server.post_json("/batch", first).status == 200
    directory = server.data_dir / "dedup"
    until(lambda: len(list(directory.glob("*.run"))) > 0, "ids on the disk", server)
    assert server.post_json("/batch", first).status == 200
    (rows,) = server.query("SELECT count(*) AS n FROM events")
    assert rows["n"] == EVENTS, "repeats are found on the disk"

    (run,) = directory.glob("*.run")
    with run.open("r+b") as file:
        for offset in range(BLOCK_BYTES, run.stat().st_size - BLOCK_BYTES, BLOCK_BYTES):
            file.seek(offset + 100)
            (byte,) = file.read(1)
            file.seek(offset + 100)
            file.write(bytes([byte ^ 1]))
    assert server.metric("penstock_dedup_damaged_runs") == 0
    answer = server.post_json("/batch", first)
    assert (answer.status, answer.header("Retry-After") is not None) == (503, True)
    assert answer.body == b"transient error, please retry"
    # What needs nothing of it is taken all the while; one in a hundred only seems to be there.
    others = [server.post_json("/batch", body_of(1)).status for _ in range(OTHERS)]
    assert others.count(200) > OTHERS / 2

    until(lambda: server.post_json("/batch", first).status == 200, "the file set aside", server)
    assert server.metric("penstock_dedup_damaged_runs") == 1
    until(lambda: len(list(directory.glob("*.damaged"))) == 1, "kept for a look", server)
    # Python writes what the core tells it in its own time.
    until(lambda: "a block is damaged" in server.log(), "a line in the log", server)
    (rows,) = server.query("SELECT count(*) AS n FROM events")
    # Those of the file came again, those in memory did not; all of it is told by the metric.
    stored_once = EVENTS + others.count(200)
    assert stored_once < rows["n"] < stored_once + EVENTS
    assert server.post_json("/batch", first).json() == {"status": "Ok"}
    (again,) = server.query("SELECT count(*) AS n FROM events")
    assert again == rows, "known again"
    assert server.stop() == 0
