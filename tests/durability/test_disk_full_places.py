"""A disk that another process fills, met at each place where one is written to (ACK-1, TAB-1).

The log, the data files and a table's own log lie on small file systems of their own, so that each
can be full alone: the roll of a log file, a Parquet file, a commit, a checkpoint. Nothing that was
acknowledged is lost or doubled, what can go on goes on, and all is well again without a restart.
"""

import random
from typing import Any

import pytest

from conftest import StartServer
from durability.checks import check_stored_once
from durability.load import TOKEN, Clients
from durability.small_disk import SmallDisk
from durability.waiting import until
from support.server import RunningServer

pytestmark = [pytest.mark.durability, pytest.mark.timeout(180)]

# Small files and a quick flush: each place is written to many times a second.
SETTINGS: dict[str, Any] = {
    "flush_interval_seconds": 0.05,
    "wal_file_bytes": 64 * 1024,
    "disk_reserve_bytes": 0,
}
# Room for what a test writes, many times over; small enough to be filled at once.
DISK_BYTES = 24 << 20
# Several entries, and no checkpoint.
LEFT_BYTES = 12 << 10
LITTLE_LOAD: dict[str, Any] = {"max_padding_bytes": 300, "days": 1, "pause_seconds": 0.01}

# Which folder is full, and what its server says of it then.
PLACES = {
    "parquet": (f"events/project={TOKEN}", "event=cut_abandoned"),
    "commit": ("events/_delta_log", "event=commit_failed"),
    "log roll": ("wal", "disk_full"),
}


def started(
    start: StartServer, disk: SmallDisk, place: str, settings: dict[str, Any]
) -> tuple[RunningServer, SmallDisk]:
    """Start a server one of whose folders is a file system of its own."""
    data_dir = disk.path.parent / "data"
    server = start(data_dir, launcher=disk.launcher, **settings)
    # So that its folders are there.
    event = {"event": "first", "distinct_id": "ada"}
    assert server.post_json("/batch", {"api_key": TOKEN, "batch": [event]}).status == 200
    assert server.stop() == 0
    full = disk.mount_over(data_dir / place, DISK_BYTES)
    return start(data_dir, launcher=disk.launcher, **settings), full


@pytest.mark.parametrize(("place", "told"), PLACES.values(), ids=PLACES)
def test_a_place_that_is_full_loses_nothing_and_is_over_by_itself(
    start: StartServer, small_disk: SmallDisk, place: str, told: str
) -> None:
    server, full = started(start, small_disk, place, SETTINGS)
    seed = random.randrange(1 << 32)
    with Clients(
        server, over_http=1, over_grpc=1, seed=seed, refused=True, **LITTLE_LOAD
    ) as clients:
        clients.wait_for_batches(30)
        full.fill()

        def is_told() -> bool:
            # What is freed meanwhile is used up too.
            full.fill()
            return told in server.log() or told in server.get_admin("/healthz").body.decode()

        until(is_told, "nothing is said of the full disk", server)
        if place != "wal":
            # The log has room: events are acknowledged all the same.
            clients.wait_for_batches(30)
        full.free()
        clients.wait_for_batches(30)
    assert server.stop() == 0
    assert "event=drained" in server.log()
    assert "event=commits_held" not in server.log()
    check_stored_once(server, clients, f"seed {seed}", where="event = 'durable'")


def test_a_disk_that_is_full_at_a_checkpoint_costs_only_the_checkpoint(
    start: StartServer, small_disk: SmallDisk
) -> None:
    # An entry has 2 kB and a checkpoint of many files more: with little room left, commits go on.
    settings = SETTINGS | {"flush_interval_seconds": 0.01}
    server, full = started(start, small_disk, "events/_delta_log", settings)
    seed = random.randrange(1 << 32)
    with Clients(server, over_http=1, seed=seed, **LITTLE_LOAD) as clients:
        clients.wait_for_batches(5)

        def checkpoint_failed() -> bool:
            full.leave(LEFT_BYTES)
            return "event=checkpoint_failed" in server.log()

        until(checkpoint_failed, "no checkpoint has failed", server)
        full.free()
        before = server.log().count("event=checkpoint_failed")
        clients.wait_for_batches(100)

        def checkpoint_made() -> bool:
            return server.metric('penstock_table_checkpoints_total{table="events"}') > 0

        until(checkpoint_made, "no checkpoint is made though there is room", server)
    assert before > 0
    assert server.stop() == 0
    assert "event=commits_held" not in server.log()
    check_stored_once(server, clients, f"seed {seed}", where="event = 'durable'")
