"""The wall clock jumps by a year, either way, in mid-run and across a restart (DUP-1, TAB-1).

Nothing is ordered or expired by it: it is only read off when a request arrives.
"""

import datetime
import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from durability.checks import check_log_was_let_go, check_stored_once, check_tables
from durability.load import Clients
from durability.waiting import until
from support.clock import YEAR_SECONDS, ShiftedClock
from support.server import RunningServer

pytestmark = [pytest.mark.durability, pytest.mark.timeout(180)]

WAL_FILE_BYTES = 64 * 1024
SETTINGS: dict[str, Any] = {
    "flush_interval_seconds": 0.05,
    "wal_file_bytes": WAL_FILE_BYTES,
    "disk_reserve_bytes": 0,
}
TOKEN = "phc_clock"
JUMPS = (YEAR_SECONDS, -YEAR_SECONDS, 0)


def send(server: RunningServer, event_id: str) -> None:
    event = {"event": "ticked", "distinct_id": "ada", "uuid": event_id}
    assert server.post_json("/batch", {"api_key": TOKEN, "batch": [event]}).status == 200


def years(server: RunningServer) -> list[int]:
    rows = server.query(
        "SELECT year(received_at) AS year FROM events WHERE event = 'ticked' ORDER BY log_position"
    )
    return [row["year"] for row in rows]


def test_jumps_in_mid_run_and_across_restarts_lose_and_double_nothing(
    start: StartServer, tmp_path: Path
) -> None:
    clock = ShiftedClock(tmp_path)
    now = datetime.datetime.now(datetime.UTC)
    seed = random.randrange(1 << 32)
    server = start(launcher=clock.launcher, **SETTINGS)
    ids = [str(uuid.uuid4()) for _ in range(7)]
    with Clients(
        server, over_http=1, over_grpc=1, seed=seed, refused=True, repeats=True
    ) as clients:
        send(server, ids[0])
        for number, jump in enumerate(JUMPS, 1):
            clients.wait_for_batches(30)
            clock.set(jump)
            # An id of before the jump is in the window still; a new one is taken.
            send(server, ids[number - 1])
            send(server, ids[number])
        for number, jump in enumerate(JUMPS, 4):
            clients.wait_for_batches(30)
            clients.server_is_gone()
            server.kill()
            clock.set(jump)
            server = start(launcher=clock.launcher, **SETTINGS)
            clients.server_is_back(server)
            send(server, ids[number - 1])
            send(server, ids[number])
        clients.wait_for_batches(30)
    jumped = [(now + datetime.timedelta(seconds=jump)).year for jump in JUMPS]
    assert years(server) == [now.year, *jumped, *jumped]
    assert server.stop() == 0, server.log()
    assert "event=drained" in server.log()
    assert "event=commits_held" not in server.log()
    # Files of the log are let go whatever the clock says.
    check_log_was_let_go(server.data_dir, 12 * WAL_FILE_BYTES)
    check_stored_once(server, clients, f"seed {seed}", where="event = 'durable'")
    assert not clients.problems


def test_a_checkpoint_is_made_and_read_after_a_jump(start: StartServer, tmp_path: Path) -> None:
    # The library's clean-up of its log goes by the ages of files; a jump must not cost an entry
    # that is needed.
    clock = ShiftedClock(tmp_path)
    seed = random.randrange(1 << 32)
    settings = SETTINGS | {"flush_interval_seconds": 0.01}
    server = start(launcher=clock.launcher, **settings)
    with Clients(
        server, over_http=1, seed=seed, days=1, max_padding_bytes=100, pause_seconds=0.02
    ) as clients:
        clients.wait_for_batches(20)
        clock.set(YEAR_SECONDS)

        def checkpoint_made() -> bool:
            return server.metric('penstock_table_checkpoints_total{table="events"}') > 0

        until(checkpoint_made, "no checkpoint was made", server)
        clock.set(-YEAR_SECONDS)
        clients.server_is_gone()
        server.kill()
        server = start(launcher=clock.launcher, **settings)
        clients.server_is_back(server)
        clients.wait_for_batches(20)
    assert server.stop() == 0, server.log()
    check_tables(server.data_dir, clients, f"seed {seed}")
