"""A server that ends at each of the core's crash points, then goes on with the same data.

Whatever was acknowledged is in the table exactly once, whatever was not at most once (ACK-1, WAL-1,
TAB-1, DUP-1). What each point proves besides stands in README.md.
"""

import random
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from durability import near_checkpoint as near
from durability.checks import check_log_was_let_go, check_no_file_is_left, check_tables
from durability.crashes import (
    crash_again,
    crash_at,
    crash_while_starting,
    wait_for_crash,
    wait_for_release,
)
from durability.load import Clients, Sent
from penstock import _core
from support.repository import table_headed
from support.server import RunningServer

WAL_FILE_BYTES = 64 * 1024
# The smallest log files and a very short interval, so that every cut lets several of them go.
SETTINGS: dict[str, Any] = {
    "flush_interval_seconds": 0.05,
    "wal_file_bytes": WAL_FILE_BYTES,
    "disk_reserve_bytes": 0,
}
# The file being written, the one before it and the prepared one, and what came in after the last
# cut that let files go.
MAX_WAL_BYTES_AFTER_A_STOP = 12 * WAL_FILE_BYTES

# Passed once in 50 commits.
CHECKPOINTS = ("checkpoint_begun", "checkpoint_written", "checkpoint_synced")
# Ids become a run when an eighth of the window is over: here after 2.5 s instead of 3 h.
SHORT_WINDOW: dict[str, Any] = {"dedup_window_seconds": 20}
MORE_SETTINGS = {
    "dedup_run_named": SHORT_WINDOW,
    "dedup_file_removed": SHORT_WINDOW,
}
# The passes before are those of a start: format and secret, and the first file of the log.
FIRST_PASS = {"publish_written": 3, "wal_file_named": 3}
# Many in a second: the later crash is to meet some of all that goes on by then.
FREQUENT = {"wal_group_written", "wal_group_synced"}
# After one crash the next pass is too far away.
RARE = MORE_SETTINGS.keys()

# Passed before a server is ready, with what must have happened before: a SIGKILL under load, or a
# crash at another point.
WHILE_STARTING: dict[str, str | None] = {
    "recovery_ids_rewritten": None,
    "recovery_marked_again": "wal_file_marked",
    "recovery_tail_rewritten": None,
    "recovery_log_read": None,
    "recovery_ids_entered": None,
    "orphan_removed": "cut_built",
    "tables_opened": None,
}
# Passed by the very first start, each time that often.
IN_A_NEW_DIRECTORY = {
    "publish_written": (1, 1, 2),
    "wal_file_named": (1, 1),
    "table_created": (1, 1),
}

UNDER_LOAD = [
    point
    for point in _core.crash_points()
    if point not in WHILE_STARTING and point not in CHECKPOINTS and point != "table_created"
]

pytestmark = [pytest.mark.durability, pytest.mark.timeout(180)]


def load(server: RunningServer, seed: int, **amount: Any) -> Clients:
    """Clients of every sort; each batch has a refused event, so that all tables get rows."""
    clients: dict[str, Any] = {"over_http": 2, "over_grpc": 1, "over_replay": 1}
    return Clients(server, seed=seed, **clients, refused=True, repeats=True, **amount)


def go_on_and_check(start: StartServer, clients: Clients, context: str, **settings: object) -> None:
    """Start a server that lives, let the clients go on, stop it, and look at the tables."""
    server = start(**settings)
    clients.server_is_back(server)
    clients.wait_for_batches(20)
    clients.stop()
    assert server.stop() == 0, server.log()
    assert "event=drained" in server.log()
    assert "event=commits_held" not in server.log()
    check_tables(server.data_dir, clients, context)
    check_no_file_is_left(server.data_dir, context)
    check_log_was_let_go(server.data_dir, MAX_WAL_BYTES_AFTER_A_STOP)


@pytest.mark.parametrize("point", UNDER_LOAD)
def test_a_crash_under_load_loses_and_doubles_nothing(start: StartServer, point: str) -> None:
    seed = random.randrange(1 << 32)
    settings = SETTINGS | MORE_SETTINGS.get(point, {})
    passes = [FIRST_PASS.get(point, 1)]
    if point not in RARE:
        # Then on data that is not new, and not at the first of its kind.
        chance = random.Random(seed)
        passes.append(chance.randrange(20, 200) if point in FREQUENT else chance.randrange(2, 6))
    context = f"{point}, passes {passes}, seed {seed}"
    server = start(**settings, **crash_at(point, passes[0]))
    with load(server, seed) as clients:
        wait_for_crash(server, point)
        for nth in passes[1:]:
            crash_again(start, clients, point, nth, **settings)
        clients.server_is_gone()
        go_on_and_check(start, clients, context, **settings)


@pytest.mark.parametrize("point", CHECKPOINTS)
def test_a_crash_at_the_first_checkpoint_loses_and_doubles_nothing(
    start: StartServer, near_checkpoint: list[Sent], point: str
) -> None:
    seed = random.randrange(1 << 32)
    server = start(**near.SETTINGS, **crash_at(point))
    with load(server, seed, before=near_checkpoint, **near.LITTLE_LOAD) as clients:
        wait_for_crash(server, point)
        clients.server_is_gone()
        go_on_and_check(start, clients, f"{point}, seed {seed}", **near.SETTINGS)


@pytest.mark.parametrize("point", WHILE_STARTING)
def test_two_crashes_while_starting_lose_and_double_nothing(start: StartServer, point: str) -> None:
    seed = random.randrange(1 << 32)
    before = WHILE_STARTING[point]
    server = start(**SETTINGS, **(crash_at(before, 3) if before else {}))
    with load(server, seed) as clients:
        if before:
            wait_for_crash(server, before)
        else:
            # Beyond a release, so that ids and marks of released files are there too.
            wait_for_release(server)
            clients.wait_for_batches(20)
        clients.server_is_gone()
        server.kill()
        for _ in range(2):
            crash_while_starting(start, point, **SETTINGS)
        go_on_and_check(start, clients, f"{point}, seed {seed}", **SETTINGS)


@pytest.mark.parametrize("point", IN_A_NEW_DIRECTORY)
def test_crashes_in_a_new_directory_leave_one_that_can_be_used(
    start: StartServer, point: str
) -> None:
    for nth in IN_A_NEW_DIRECTORY[point]:
        crash_while_starting(start, point, nth, **SETTINGS)
    seed = random.randrange(1 << 32)
    server = start(**SETTINGS)
    with load(server, seed) as clients:
        clients.wait_for_batches(20)
        clients.server_is_gone()
        assert server.stop() == 0
        go_on_and_check(start, clients, f"{point}, seed {seed}", **SETTINGS)


def test_a_crash_at_the_making_of_a_table_that_is_made_late_loses_nothing(
    start: StartServer,
) -> None:
    seed = random.randrange(1 << 32)
    # Those of `events` and `rejected` come before it, at the start.
    server = start(**SETTINGS, **crash_at("table_created", 3))
    with load(server, seed) as clients:
        wait_for_crash(server, "table_created")
        clients.server_is_gone()
        go_on_and_check(start, clients, f"table_created, seed {seed}", **SETTINGS)


def test_every_point_is_met_by_a_test_and_described() -> None:
    points = list(_core.crash_points())
    assert len(points) > 20
    assert {*UNDER_LOAD, *CHECKPOINTS, *WHILE_STARTING, *IN_A_NEW_DIRECTORY} == set(points)
    described = [row[0] for row in table_headed(Path(__file__).with_name("README.md"), "point")]
    assert described == points
