"""Copies of a data directory, and of its parts, beside one table (TAB-1, WAL-3).

Copies happen: a backup that is put back, a disk that is cloned, two machines with one volume. Each
opening of a log has a lane of its own, so nothing of one can pass for another's.
"""

import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from durability.checks import read_table
from support.server import RunningServer

pytestmark = [pytest.mark.durability, pytest.mark.timeout(180)]

TOKEN = "phc_copies"
SETTINGS: dict[str, Any] = {"flush_interval_seconds": 0.05, "disk_reserve_bytes": 0}
NEVER_FLUSHED: dict[str, Any] = SETTINGS | {"flush_interval_seconds": 3600}
MAX_TRIES = 400


def send(server: RunningServer, names: Iterable[str]) -> list[str]:
    sent = list(names)
    for name in sent:
        # Without an id: deduplication can't make up for a row that comes twice.
        body = {"api_key": TOKEN, "batch": [{"event": name, "distinct_id": "ada"}]}
        assert server.post_json("/batch", body).status == 200
    return sent


def names(letter: str, count: int) -> list[str]:
    return [f"{letter}{number}" for number in range(count)]


def stored(data_dir: Path) -> Counter[str]:
    """What is in the table alone."""
    return Counter(name for (name,) in read_table(data_dir / "events", "event"))


def stop_all(*servers: RunningServer) -> None:
    for server in servers:
        assert server.stop() == 0, server.log()


def is_held(server: RunningServer) -> bool:
    return b"commits held" in server.get_admin("/healthz").body


def share_tables(data_dir: Path, other: Path) -> None:
    """Have another data directory use the tables of the first."""
    for table in ("events", "rejected"):
        shutil.rmtree(other / table, ignore_errors=True)
        (other / table).symlink_to(data_dir / table)


def test_an_old_copy_of_the_log_beside_a_newer_table(start: StartServer, tmp_path: Path) -> None:
    server = start(**NEVER_FLUSHED)
    data_dir = server.data_dir
    first = send(server, names("a", 5))
    shutil.copytree(data_dir / "wal", tmp_path / "old")
    second = send(server, names("b", 5))
    stop_all(server)
    assert stored(data_dir) == Counter(first + second)
    shutil.rmtree(data_dir / "wal")
    shutil.copytree(tmp_path / "old", data_dir / "wal")

    # Its positions go on from where the copy ends, which were used before: the lanes differ.
    server = start(**SETTINGS)
    third = send(server, names("c", 7))
    assert not is_held(server)
    everything = Counter(first + second + third)
    assert Counter(row["event"] for row in server.query("SELECT event FROM events")) == everything
    stop_all(server)
    assert stored(data_dir) == everything
    again = start(**SETTINGS)
    fourth = send(again, names("d", 1))
    stop_all(again)
    assert stored(data_dir) == everything + Counter(fourth)


def test_the_log_is_gone_and_the_table_is_not(start: StartServer) -> None:
    server = start(**SETTINGS)
    data_dir = server.data_dir
    first = send(server, names("a", 5))
    stop_all(server)
    shutil.rmtree(data_dir / "wal")
    server = start(**SETTINGS)
    second = send(server, names("b", 3))
    everything = Counter(first + second)
    assert Counter(row["event"] for row in server.query("SELECT event FROM events")) == everything
    stop_all(server)
    assert stored(data_dir) == everything


def test_two_servers_on_two_copies_and_one_table_take_turns(
    start: StartServer, tmp_path: Path
) -> None:
    server = start(**NEVER_FLUSHED)
    data_dir = server.data_dir
    everything = send(server, names("a", 5))
    server.kill()
    # Both have the same five records, which no table has yet.
    other = tmp_path / "other"
    shutil.copytree(data_dir, other)
    share_tables(data_dir, other)
    for turn in range(6):
        server = start((data_dir, other)[turn % 2], **SETTINGS)
        everything += send(server, names(f"turn{turn}-", 3))
        assert not is_held(server)
        stop_all(server)
        assert stored(data_dir) == Counter(everything), f"turn {turn}"


def test_two_servers_on_two_copies_and_one_table_at_once(
    start: StartServer, tmp_path: Path
) -> None:
    server = start(**NEVER_FLUSHED)
    data_dir = server.data_dir
    everything = send(server, names("a", 5))
    server.kill()
    other = tmp_path / "other"
    shutil.copytree(data_dir, other)
    share_tables(data_dir, other)
    # Both open the table before either commits the records that they share.
    servers = [start(folder, **NEVER_FLUSHED) for folder in (data_dir, other)]
    for letter, each in zip("bc", servers, strict=True):
        everything += send(each, names(letter, 20))
    stop_all(*servers)
    # One of them found that a transaction of its log moved without it: it held, and lost nothing.
    held = [each for each in servers if "code=transaction_moved" in each.log()]
    assert len(held) == 1, [each.log() for each in servers]
    assert not [name for name, count in stored(data_dir).items() if count > 1]
    # A restart finds what is true, and goes on.
    again = start(held[0].data_dir, **SETTINGS)
    assert not is_held(again)
    everything += send(again, names("d", 3))
    stop_all(again)
    assert stored(data_dir) == Counter(everything)


def test_two_servers_with_logs_of_their_own_commit_to_one_table_at_once(
    start: StartServer, tmp_path: Path
) -> None:
    # Nothing in common but the table: each commit is rebased over the other's.
    seed = random.randrange(1 << 32)
    server = start(**SETTINGS)
    data_dir = server.data_dir
    everything = send(server, names("a", 1))
    stop_all(server)
    other = tmp_path / "other"
    shutil.copytree(data_dir, other, ignore=shutil.ignore_patterns("wal", "lock"))
    share_tables(data_dir, other)
    servers = [start(folder, **SETTINGS) for folder in (data_dir, other)]
    sent: list[list[str]] = [[], []]

    def fill(index: int) -> None:
        sent[index] = send(servers[index], names(f"s{index}-", 80))

    threads = [threading.Thread(target=fill, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop_all(*servers)
    everything += [*sent[0], *sent[1]]
    for each in servers:
        assert "event=commits_held" not in each.log(), f"seed {seed}"
        assert "event=drained" in each.log()
    assert stored(data_dir) == Counter(everything), f"seed {seed}"
