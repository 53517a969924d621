"""What a power cut leaves of the table library's writes, which nobody had synced yet.

A real server ends itself at a point at which the library has written and we have synced nothing of
it. Then that write is made what a power cut makes of it: empty, half, zeros, or not there at all.
The next server loses and doubles nothing (ACK-1, TAB-1). That nothing else is unsynced when the log
lets go is shown by the system calls (`test_sync_order.py`).
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from conftest import StartServer
from durability import near_checkpoint as near
from durability.checks import check_no_file_is_left, check_tables
from durability.crashes import crash_at, wait_for_crash
from durability.load import Clients, Sent

pytestmark = [pytest.mark.durability, pytest.mark.timeout(180)]

SETTINGS: dict[str, Any] = {
    "flush_interval_seconds": 0.05,
    "wal_file_bytes": 64 * 1024,
    "disk_reserve_bytes": 0,
}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def absent(path: Path) -> None:
    path.unlink()


Tear = Callable[[Path], None]
TEARS: list[Tear] = [empty, half, zeros, absent]


def noted_versions(data_dir: Path) -> dict[str, int]:
    """Version of each table in the note, which is written before the log lets go."""
    try:
        note = json.loads((data_dir / "wal" / "tables.json").read_bytes())
    except FileNotFoundError:
        return {}
    return {name: table["version"] for name, table in note["tables"].items()}


def unsynced_entry(data_dir: Path) -> Path:
    """The entry that the crash left unsynced: the last of all that was written, above the note."""
    newest = max(data_dir.glob("*/_delta_log/*.json"), key=lambda path: path.stat().st_mtime_ns)
    assert int(newest.stem) > noted_versions(data_dir).get(newest.parent.parent.name, -1)
    return newest


def unnamed_files(data_dir: Path) -> list[Path]:
    """Parquet files that no table names."""
    named = {
        uri.rsplit("/", 1)[-1]
        for table in ("events", "rejected")
        for uri in DeltaTable(data_dir / table).file_uris()
    }
    found = [path for table in ("events", "rejected") for path in data_file(data_dir / table)]
    return [path for path in found if path.name not in named]


def data_file(table: Path) -> list[Path]:
    return [path for path in table.rglob("*.parquet") if "checkpoint" not in path.name]


def crash_tear_and_go_on(
    start: StartServer,
    point: str,
    nth: int,
    tear: Callable[[Path], None],
    settings: dict[str, Any],
    **load: Any,
) -> None:
    seed = random.randrange(1 << 32)
    context = f"{point}, pass {nth}, seed {seed}"
    server = start(**settings, **crash_at(point, nth))
    data_dir = server.data_dir
    with Clients(server, over_http=2, over_grpc=1, seed=seed, refused=True, **load) as clients:
        wait_for_crash(server, point)
        clients.server_is_gone()
        tear(data_dir)
        server = start(**settings)
        clients.server_is_back(server)
        clients.wait_for_batches(20)
    assert server.stop() == 0, server.log()
    assert "event=drained" in server.log()
    assert "event=commits_held" not in server.log(), context
    check_tables(data_dir, clients, context)
    check_no_file_is_left(data_dir, context)


def crash_at_checkpoint_tear_and_go_on(
    start: StartServer, before: list[Sent], tear: Callable[[Path], None]
) -> None:
    crash_tear_and_go_on(
        start, "checkpoint_written", 1, tear, near.SETTINGS, before=before, **near.LITTLE_LOAD
    )


@pytest.mark.parametrize("tear", TEARS)
def test_a_log_entry_that_was_not_synced(start: StartServer, tear: Tear) -> None:
    def tear_newest(data_dir: Path) -> None:
        tear(unsynced_entry(data_dir))

    # Passed for each table: events, rejected, and so on.
    nth = random.randrange(3, 12)
    crash_tear_and_go_on(start, "commit_written", nth, tear_newest, SETTINGS)


@pytest.mark.parametrize("tear", TEARS)
def test_a_checkpoint_that_was_not_synced(
    start: StartServer, near_checkpoint: list[Sent], tear: Tear
) -> None:
    def tear_newest(data_dir: Path) -> None:
        found = sorted(data_dir.glob("*/_delta_log/*.checkpoint.parquet"))
        tear(found[-1])

    crash_at_checkpoint_tear_and_go_on(start, near_checkpoint, tear_newest)


@pytest.mark.parametrize("tear", TEARS)
def test_a_name_of_the_last_checkpoint_that_was_not_synced(
    start: StartServer, near_checkpoint: list[Sent], tear: Tear
) -> None:
    def tear_name(data_dir: Path) -> None:
        (found,) = data_dir.glob("*/_delta_log/_last_checkpoint")
        tear(found)

    crash_at_checkpoint_tear_and_go_on(start, near_checkpoint, tear_name)


@pytest.mark.parametrize("tear", TEARS)
def test_data_files_that_were_not_synced(start: StartServer, tear: Tear) -> None:
    def tear_all(data_dir: Path) -> None:
        files = unnamed_files(data_dir)
        assert files
        for file in files:
            tear(file)

    crash_tear_and_go_on(start, "cut_built", random.randrange(1, 6), tear_all, SETTINGS)


def test_a_partition_directory_that_was_not_synced(start: StartServer) -> None:
    def remove_partitions(data_dir: Path) -> None:
        # Of the first cut: no commit has synced a directory yet.
        removed = [path for path in (data_dir / "events").iterdir() if "=" in path.name]
        assert removed
        for path in removed:
            shutil.rmtree(path)

    crash_tear_and_go_on(start, "cut_built", 1, remove_partitions, SETTINGS)


def test_killed_after_the_commit_then_a_release_then_a_power_cut(start: StartServer) -> None:
    # A commit that landed unsynced is made durable by the process that finds it, before the log
    # lets go: so a power cut after the release finds it. What that process left unsynced is torn.
    seed = random.randrange(1 << 32)
    server = start(**SETTINGS, **crash_at("commit_written", 3))
    data_dir = server.data_dir
    with Clients(server, over_http=2, over_grpc=1, seed=seed, refused=True) as clients:
        wait_for_crash(server, "commit_written")
        clients.server_is_gone()
        server = start(**SETTINGS, **crash_at("commit_written", 30))
        clients.server_is_back(server)
        wait_for_crash(server, "commit_written")
        clients.server_is_gone()
        assert noted_versions(data_dir)["events"] > 3, "nothing was let go"
        half(unsynced_entry(data_dir))
        server = start(**SETTINGS)
        clients.server_is_back(server)
        clients.wait_for_batches(20)
    assert server.stop() == 0, server.log()
    assert "event=commits_held" not in server.log()
    check_tables(data_dir, clients, f"seed {seed}")
