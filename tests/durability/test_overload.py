"""More than the server can take, for a while: it refuses, and nothing grows (LIM-2).

Each budget is made small enough to be met, and what is stated for it must happen: past the bytes in
flight and the bytes of the log 503, past the cache batches are read back, past the open partitions
files are closed early. What was acknowledged is in the table exactly once all the same.

`PENSTOCK_OVERLOAD_SECONDS=600` goes on for ten minutes.
"""

import contextlib
import http.client
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import pytest

from conftest import StartServer
from support.server import RunningServer

KIB, MIB = 1 << 10, 1 << 20
SECONDS = float(os.environ.get("PENSTOCK_OVERLOAD_SECONDS", "9"))
CLIENTS = 12
EVENTS = 100
# Most batches are of a few days, and now and then one is of another: past the open partitions one
# is closed early. All at once would make 150 files a second, and the Delta library keeps 2 kB of
# each file that a table names, which is the table's growth and not the overload's.
USUAL_DAYS = 4
DAYS = 20
BATCHES_A_STRAY = 50
# Of properties: a batch is about 200 kB.
PADDING = "x" * 1_800
# A refused client of ours comes back at once: ruder than any SDK.
BACK_SECONDS = 0.01

MAX_WAL_BYTES = 12 * MIB
MAX_IN_FLIGHT_BYTES = 4 * MIB
CACHE_BYTES = 256 * KIB
MAX_OPEN_PARTITIONS = 8
SEGMENT_BYTES = 4 * MIB
SETTINGS = {
    "flush_interval_seconds": 0.5,
    "wal_file_bytes": MIB,
    "max_wal_bytes": MAX_WAL_BYTES,
    "max_in_flight_bytes": MAX_IN_FLIGHT_BYTES,
    "max_recording_bytes": MAX_IN_FLIGHT_BYTES,
    "max_request_bytes": 2 * MIB,
    "max_decompressed_bytes": 4 * MIB,
    "max_event_bytes": MIB,
    "batch_cache_bytes": CACHE_BYTES,
    "dedup_memory_bytes": 16 * MIB,
    "max_open_partitions": MAX_OPEN_PARTITIONS,
    "segment_memory_bytes": SEGMENT_BYTES,
    "disk_reserve_bytes": 0,
}
# The padding of groups that wait, and of the one that is written; rows of one batch; what the
# allocator keeps.
LOG_SLACK_BYTES = 2 * MIB
SEGMENT_SLACK_BYTES = 2 * MIB
MEMORY_SLACK_BYTES = 24 * MIB

pytestmark = [pytest.mark.durability, pytest.mark.timeout(120 + SECONDS * 3)]


@dataclass
class Flood:
    """Clients that send as fast as they are answered."""

    server: RunningServer
    acknowledged: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [
            threading.Thread(target=self._send, args=(number,)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, client: int) -> None:
        connection = http.client.HTTPConnection(*self.server.http, timeout=30)
        with contextlib.closing(connection):
            batch = 0
            while not self._stop.is_set():
                batch += 1
                connection.request("POST", "/batch/", body_of(client, batch))
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status == 200:
                    self.acknowledged.add(f"{client:08x}{batch:08x}")
                elif answer.status == 503 and answer.getheader("Retry-After"):
                    self.refused[text] += 1
                    self._stop.wait(BACK_SECONDS)
                else:
                    self.problems.append(f"{answer.status} {text}")


def body_of(client: int, batch: int) -> bytes:
    stray, usual = divmod(batch, BATCHES_A_STRAY)
    day = 1 + (client % USUAL_DAYS if usual else (client + stray) % DAYS)
    events = ",".join(
        f'{{"uuid":"{client:08x}-0000-4000-8000-{batch:08x}{index:04x}","event":"flood",'
        f'"distinct_id":"d","timestamp":"2026-10-{day:02}T12:00:00Z",'
        f'"properties":{{"padding":"{PADDING}"}}}}'
        for index in range(EVENTS)
    )
    return f'{{"api_key":"phc_overload","batch":[{events}]}}'.encode()


def metrics(server: RunningServer) -> dict[str, float]:
    text = server.get_admin("/metrics").body.decode()
    return {
        name: float(value)
        for name, value in re.findall(r"^(penstock_\w+) (\S+)$", text, re.MULTILINE)
    }


def test_an_overload_is_refused_and_memory_stays_flat(start: StartServer) -> None:
    server = start(**SETTINGS)
    most: Counter[str] = Counter()
    peaks = []
    clock = threading.Event()
    with Flood(server) as flood:
        for _ in range(3):
            server.forget_peak_memory()
            for _ in range(max(1, int(SECONDS / 3 / 0.1))):
                clock.wait(0.1)
                for name, value in metrics(server).items():
                    most[name] = max(most[name], int(value))
            peaks.append(server.peak_memory_bytes())
    assert not flood.problems, flood.problems[:3]
    last = metrics(server)

    # Each budget was met, and kept.
    assert most["penstock_wal_used_bytes"] > MAX_WAL_BYTES // 2
    assert most["penstock_wal_used_bytes"] <= MAX_WAL_BYTES + LOG_SLACK_BYTES
    assert most["penstock_engine_in_flight_bytes"] <= MAX_IN_FLIGHT_BYTES
    assert most["penstock_engine_batch_cache_bytes"] <= CACHE_BYTES
    assert 0 < most["penstock_segment_open_partitions"] <= MAX_OPEN_PARTITIONS
    assert most["penstock_segment_buffered_bytes"] <= SEGMENT_BYTES + SEGMENT_SLACK_BYTES
    assert any("log is full" in text for text in flood.refused), flood.refused
    assert last["penstock_engine_records_read_back_total"] > 0
    assert last["penstock_segment_closed_early_total"] > 0
    # The first third fills caches and budgets; after that nothing grows.
    assert peaks[2] <= peaks[1] + MEMORY_SLACK_BYTES, peaks

    assert server.stop() == 0, server.log()
    sql = (
        "SELECT substr(uuid, 1, 8) || substr(uuid, 25, 8) AS batch, count(*) AS copies, "
        "count(DISTINCT uuid) AS ids FROM events GROUP BY batch"
    )
    stored = {row["batch"]: (row["copies"], row["ids"]) for row in server.query(sql)}
    assert set(stored) == flood.acknowledged
    assert set(stored.values()) == {(EVENTS, EVENTS)}
