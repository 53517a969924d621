"""System calls of a server: what a released log file rests on was synced before (TAB-2, TAB-3).

The table library syncs nothing. So of every entry that it has linked when a log file is marked as
released, or taken away, these must have been synced by us since: the entry, the log's directory,
the data files that it names (before the entry itself), and the directories up to the top.
"""

import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from conftest import StartServer
from durability.crashes import crash_at, wait_for_crash
from durability.load import Clients
from support.server import RunningServer
from support.trace import Call, launcher, read_calls, wait_for_end

pytestmark = [pytest.mark.durability, pytest.mark.timeout(180)]

SETTINGS: dict[str, Any] = {
    "flush_interval_seconds": 0.05,
    "wal_file_bytes": 64 * 1024,
    "disk_reserve_bytes": 0,
}
# Of the first block of a log file, as `rust_core/wal/src/format.rs` describes it.
GENERATION = slice(24, 32)
RELEASE_MAGIC = slice(2048, 2056)
RELEASED_GENERATION = slice(2056, 2064)


class Trace:
    """The calls of one server below its data directory."""

    def __init__(self, output: Path, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.calls = read_calls(output, data_dir)
        self._syncs: dict[str, list[Call]] = {}
        for call in self.calls:
            if call.name in {"fsync", "fdatasync"}:
                self._syncs.setdefault(call.paths[0], []).append(call)

    def synced(self, path: Path, after: int, before: int) -> bool:
        """Whether a whole sync of a path lies between two lines of the trace."""
        syncs = self._syncs.get(str(path), [])
        return any(after < call.began and call.ended < before for call in syncs)

    def releases(self) -> list[Call]:
        """What invalidates a file of the log that had records: its mark, and its name's end."""
        ends = [
            call
            for call in self.calls
            if call.name in {"unlink", "unlinkat", "rename", "renameat", "renameat2"}
            and Path(call.paths[0]).parent == self.data_dir / "wal"
            and Path(call.paths[0]).suffix == ".wal"
        ]
        found = []
        for end in ends:
            written = [
                call
                for call in self.calls
                if call.name.startswith("pwrite")
                and call.paths[0] == end.paths[0]
                and call.offset == 0
                and call.ended < end.began
            ]
            # A file that was only prepared for records has no mark, and no say.
            found += [*written[-1:], end] if written else []
        return sorted(found, key=lambda call: call.began)

    def entries(self) -> dict[Path, int]:
        """Entries of the tables' logs that were linked, with the line of that."""
        linked: dict[Path, int] = {}
        for call in self.calls:
            target = Path(call.paths[-1])
            if call.name in {"link", "linkat"} and target.parent.name == "_delta_log":
                linked[target] = call.began
        return linked


def is_marked(path: Path) -> bool:
    """Whether a file of the log bears the mark that it is released."""
    block = path.read_bytes()[:4096]
    return block[RELEASE_MAGIC] == b"PSWALREL" and block[RELEASED_GENERATION] == block[GENERATION]


def files_of(entry: Path) -> list[Path]:
    """Data files that an entry names."""
    actions = [json.loads(line) for line in entry.read_text().splitlines()]
    table = entry.parent.parent
    return [table / unquote(action["add"]["path"]) for action in actions if "add" in action]


def check_order(trace: Trace) -> int:
    """Check every release against what was linked before; how many there were."""
    releases = trace.releases()
    entries = trace.entries()
    for release in releases:
        for entry, linked in entries.items():
            if linked < release.began:
                check_entry(trace, entry, linked, release.began)
    return len(releases)


def check_entry(trace: Trace, entry: Path, linked: int, release: int) -> None:
    assert trace.synced(entry, linked, release), f"{entry} is not synced"
    assert trace.synced(entry.parent, linked, release), f"{entry.parent} is not synced"
    for file in files_of(entry):
        created = max(
            (call.began for call in trace.calls if call.creates and call.paths[-1] == str(file)),
            default=-1,
        )
        written = max(
            (
                call.ended
                for call in trace.calls
                if call.name.startswith(("write", "pwrite")) and call.paths[0] == str(file)
            ),
            default=created,
        )
        assert written < linked, f"{file} is written after it was named"
        assert trace.synced(file, written, linked), f"{file} is not synced"
        folder = file.parent
        while True:
            assert trace.synced(folder, created, linked), f"{folder} is not synced"
            if folder == trace.data_dir:
                break
            folder = folder.parent


def load(server: RunningServer, seed: int) -> Clients:
    return Clients(
        server, over_http=1, over_grpc=1, seed=seed, refused=True, max_padding_bytes=20_000, days=2
    )


def traced(server: RunningServer, output: Path) -> Trace:
    """Stop a server and read what it did."""
    assert server.stop() == 0, server.log()
    wait_for_end(output, server.pid)
    return Trace(output, server.data_dir)


def test_all_of_a_commit_is_synced_before_the_log_lets_go(
    start: StartServer, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    output = tmp_path / "calls.txt"
    server = start(launcher=launcher(output), **SETTINGS)
    with load(server, seed) as clients:
        clients.wait_for_batches(60)
    trace = traced(server, output)
    assert len(trace.entries()) > 4, f"seed {seed}: hardly a commit"
    assert check_order(trace) > 4, f"seed {seed}: hardly a release"


@pytest.mark.parametrize(("point", "nth"), [("commit_written", 3), ("wal_file_marked", 1)])
def test_a_commit_of_a_process_that_was_killed_is_synced_before_the_log_lets_go(
    start: StartServer, tmp_path: Path, point: str, nth: int
) -> None:
    # The commit landed and nothing of it was synced; the next process finds it and lets the log go.
    seed = random.randrange(1 << 32)
    server = start(**SETTINGS, **crash_at(point, nth))
    with load(server, seed) as clients:
        wait_for_crash(server, point)
        clients.server_is_gone()
        found = sorted(server.data_dir.glob("*/_delta_log/*.json"))
        # Let go by the process that was killed, which had synced what that rests on: the next one
        # only ends it, before it looks at a table.
        let_go = {str(path) for path in server.data_dir.glob("wal/*.wal") if is_marked(path)}
        output = tmp_path / "calls.txt"
        server = start(launcher=launcher(output), **SETTINGS)
        clients.server_is_back(server)
        clients.wait_for_batches(40)
    assert let_go or point != "wal_file_marked"
    trace = traced(server, output)
    first = next(call for call in trace.releases() if call.paths[0] not in let_go).began
    for entry in found:
        assert trace.synced(entry, -1, first), f"{entry} is not synced"
        assert trace.synced(entry.parent, -1, first), f"{entry.parent} is not synced"
    check_order(trace)
