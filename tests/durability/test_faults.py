"""A disk that is full, and one that fails a sync, under a real server with load (ACK-1, TAB-1).

Each must be told to clients and to health checks, lose nothing that was acknowledged, and be over
once the disk is well again, without a restart.
"""

import random
from pathlib import Path

import pytest

from conftest import StartServer
from durability.checks import check_stored_once
from durability.load import Clients
from durability.small_disk import SmallDisk
from durability.waiting import until
from penstock import _core
from support.http import Response
from support.server import RunningServer

EVENT = {"api_key": "phc_faults", "event": "sent", "distinct_id": "ada"}
BIG_EVENT = EVENT | {"properties": {"padding": "x" * 100_000}}

SETTINGS = {"flush_interval_seconds": 0.2, "wal_file_bytes": 256 * 1024}
RESERVE_BYTES = 8 << 20


def check_refusal(refusal: Response) -> None:
    assert refusal.status == 503, refusal
    assert 1 <= int(refusal.header("retry-after") or "0") <= 10


def is_ready(server: RunningServer) -> bool:
    return server.get_admin("/readyz").status == 200


def check_unready(server: RunningServer, reason: str) -> None:
    until(lambda: not is_ready(server), "health does not say so", server)
    page = server.get_admin("/readyz")
    assert page.status == 503
    assert reason in page.body.decode()
    # It is alive: a restart by whoever looks after it would not help.
    assert server.get_admin("/healthz").status == 200
    assert reason in server.get_admin("/healthz").body.decode()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("reserve_bytes", [RESERVE_BYTES, 0])
def test_a_full_disk_is_told_loses_nothing_and_is_over_by_itself(
    start: StartServer, small_disk: SmallDisk, reserve_bytes: int
) -> None:
    settings = SETTINGS | {"disk_reserve_bytes": reserve_bytes}
    data_dir = small_disk.path / "data"
    server = start(data_dir, launcher=small_disk.launcher, **settings)
    seed = random.randrange(1 << 32)
    with Clients(server, over_http=2, over_grpc=1, seed=seed, refused=True) as clients:
        clients.wait_for_batches(50)
        small_disk.fill()
        refusals: list[Response] = []

        def refused() -> bool:
            # What the server frees of its own (its reserve, released files) is used up too.
            small_disk.fill()
            response = server.post_json("/batch", BIG_EVENT)
            refusals.append(response)
            return response.status != 200

        until(refused, "a full disk takes everything", server)
        check_refusal(refusals[-1])
        check_unready(server, "disk_full")
        small_disk.free()
        until(lambda: is_ready(server), "not ready though there is room again", server)
        clients.wait_for_batches(50)
        assert server.post_json("/batch", EVENT).status == 200
    assert server.stop() == 0
    assert "event=drained" in server.log()
    taken = 1 + sum(response.status == 200 for response in refusals)
    rows = server.query("SELECT count(*) AS n FROM events WHERE event = 'sent'")
    assert taken <= rows[0]["n"] <= taken + 1
    # The load's own events, with those of this test left out.
    check_stored_once(server, clients, f"seed {seed}", where="event = 'durable'")


@pytest.mark.timeout(180)
def test_a_failed_sync_is_told_loses_nothing_and_is_over_by_itself(
    start: StartServer, tmp_path: Path
) -> None:
    assert "testing" in _core.BUILD_FEATURES, "tests run on a build that can fail on purpose"
    failing = tmp_path / "syncs-fail"
    settings = SETTINGS | {"disk_reserve_bytes": 0, "test_fail_sync_file": failing}
    server = start(**settings)
    seed = random.randrange(1 << 32)
    with Clients(server, over_http=2, over_grpc=1, seed=seed, refused=True) as clients:
        for _ in range(3):
            clients.wait_for_batches(30)
            failing.touch()
            refusals: list[Response] = []

            def refused(answers: list[Response] = refusals) -> bool:
                answers.append(server.post_json("/batch", EVENT))
                return answers[-1].status != 200

            until(refused, "events are taken though no sync succeeds", server)
            check_refusal(refusals[-1])
            check_unready(server, "storage_failed")
            failing.unlink()
            until(lambda: is_ready(server), "not ready though the disk is well again", server)
        clients.wait_for_batches(30)
    assert server.stop() == 0
    assert "event=drained" in server.log()
    check_stored_once(server, clients, f"seed {seed}", where="event = 'durable'")


@pytest.mark.timeout(180)
def test_a_kill_while_syncs_fail_loses_nothing(start: StartServer, tmp_path: Path) -> None:
    failing = tmp_path / "syncs-fail"
    settings = SETTINGS | {"disk_reserve_bytes": 0, "test_fail_sync_file": failing}
    server = start(**settings)
    seed = random.randrange(1 << 32)
    with Clients(server, over_http=2, over_grpc=1, seed=seed) as clients:
        clients.wait_for_batches(30)
        failing.touch()
        until(lambda: server.post_json("/batch", EVENT).status != 200, "no sync has failed", server)
        clients.server_is_gone()
        server.kill()
        failing.unlink()
        server = start(**settings)
        clients.server_is_back(server)
        clients.wait_for_batches(30)
    assert server.stop() == 0
    check_stored_once(server, clients, f"seed {seed}", where="event = 'durable'")
