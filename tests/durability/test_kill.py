"""SIGKILL in the middle of load (ACK-1, WAL-1, TAB-1, TAB-3, DUP-1)."""

import os
import random

import pytest

from conftest import StartServer
from durability.checks import check_log_was_let_go, check_no_file_is_left, check_stored_once
from durability.load import Clients

# More by `make test-durability PENSTOCK_CRASH_ROUNDS=200`.
ROUNDS = int(os.environ.get("PENSTOCK_CRASH_ROUNDS", "20"))

WAL_FILE_BYTES = 256 * 1024
# Small files and a quick flush, so that kills meet rolls, commits and releases too.
SETTINGS = {
    "flush_interval_seconds": 0.1,
    "wal_file_bytes": WAL_FILE_BYTES,
    "disk_reserve_bytes": 0,
}
# The file being written, the one before it, the prepared one, and what is beside them.
MAX_WAL_BYTES_AFTER_A_STOP = 4 * WAL_FILE_BYTES


@pytest.mark.timeout(90 + 15 * ROUNDS)
def test_what_was_acknowledged_is_stored_once_however_often_the_server_is_killed(
    start: StartServer,
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    server = start(**SETTINGS)
    with Clients(
        server, over_http=3, over_grpc=2, over_replay=1, seed=seed, refused=True, repeats=True
    ) as clients:
        for _ in range(ROUNDS):
            # From before the first commit to after many releases.
            clients.wait_for_batches(chance.randrange(1, 300))
            clients.server_is_gone()
            server.kill()
            server = start(**SETTINGS)
            clients.server_is_back(server)
        clients.wait_for_batches(10)
    assert server.stop() == 0, server.log()
    assert "event=drained" in server.log()
    assert "event=commits_held" not in server.log()
    check_stored_once(server, clients, f"seed {seed}")
    assert all(sent.batches > 0 for sent in clients.sent), "a client never got through"
    assert len(clients.acknowledged()) > ROUNDS, "the load was no load"
    # All of it is in the table, not in the log alone.
    check_no_file_is_left(server.data_dir, f"seed {seed}")
    check_log_was_let_go(server.data_dir, MAX_WAL_BYTES_AFTER_A_STOP)

    # A restart with nothing to do does nothing, and the next one goes on.
    for _ in range(2):
        idle = start(**SETTINGS)
        assert idle.stop() == 0
        assert "event=drained" in idle.log()
    check_stored_once(server, clients, f"seed {seed}, after idle restarts")
    check_log_was_let_go(server.data_dir, MAX_WAL_BYTES_AFTER_A_STOP)
    last = start(**SETTINGS)
    event = {"api_key": "phc_last", "event": "last", "distinct_id": "ada"}
    assert last.post_json("/e", event).status == 200
    assert last.stop() == 0
    assert "event=drained" in last.log()
    assert last.query("SELECT count(*) AS n FROM events WHERE event = 'last'") == [{"n": 1}]
