"""A data directory some commits short of its first checkpoint: made once, copied for each test.

The way there is nearly all of the time that such a test takes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durability.load import Clients, Sent
from durability.waiting import until
from penstock.table.log_table import CHECKPOINT_EVERY
from support.server import start_server

# Small cuts, one right after the other.
SETTINGS: dict[str, Any] = {
    "flush_interval_seconds": 0.01,
    "wal_file_bytes": 64 * 1024,
    "disk_reserve_bytes": 0,
}
LITTLE_LOAD: dict[str, Any] = {"pause_seconds": 0.02, "days": 1, "max_padding_bytes": 100}

# What is left has room for the commits until the stop is through, and for those of a test.
MADE_COMMITS = CHECKPOINT_EVERY - 10

# Chooses ids and padding only; a test goes on with a seed of its own.
SEED = 1


@dataclass(frozen=True)
class NearCheckpoint:
    """A data directory that no server has, and what was sent to it: all is in its tables."""

    data_dir: Path
    sent: list[Sent]


def make(folder: Path) -> NearCheckpoint:
    """Run a server under load until a few commits before the first checkpoint, and stop it."""
    data_dir = folder / "data"
    entries = data_dir / "events" / "_delta_log"
    server = start_server(data_dir, folder / "server", **SETTINGS)
    try:
        with Clients(
            server,
            over_http=2,
            over_grpc=1,
            over_replay=1,
            seed=SEED,
            refused=True,
            repeats=True,
            **LITTLE_LOAD,
        ) as clients:
            until(
                lambda: len(list(entries.glob("*.json"))) >= MADE_COMMITS,
                "too few commits",
                server,
            )
    finally:
        code = server.stop()
    assert code == 0, server.log()
    assert not list(data_dir.glob("*/_delta_log/*checkpoint*")), "it came too far"
    return NearCheckpoint(data_dir, clients.sent)
