"""What is synced before it counts (TAB-2), on a disk that fails too."""

import errno
import os
from pathlib import Path

import pytest

from penstock.table.errors import CommitFailedError, HoldCommitsError
from penstock.table.note import TableNote
from unit.table.helpers import (
    DAY,
    LANE,
    opened,
    positions,
    with_checkpoint,
    write_segment,
)


def test_everything_a_commit_rests_on_is_synced_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = opened(tmp_path)
    file = write_segment(tmp_path, [1])
    synced: list[Path] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    table.commit([file], {LANE: 1})
    leaf = (tmp_path / "events" / file.path).parent
    log = tmp_path / "events/_delta_log"
    assert synced == [
        leaf,
        leaf.parent,
        tmp_path / "events",
        tmp_path,
        log / f"{1:020}.json",
        log,
    ]


class Disk:
    """`os.fsync` that fails for files of a name, once each as Linux does, or always."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str, always: bool = False) -> None:
        self.names = set(names)
        self.always = always
        self.calls: list[str] = []
        self.written: list[str] = []
        self._fsync, self._pwrite = os.fsync, os.pwrite
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def fsync(self, descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        self.calls.append(name)
        if name in self.names:
            if not self.always:
                self.names.remove(name)
            raise OSError(errno.EIO, "Input/output error")
        self._fsync(descriptor)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self.written.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        return self._pwrite(descriptor, data, offset)


def test_entry_whose_sync_fails_is_written_again_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second fsync of the same file would say "fine" while the bytes are in memory alone.
    table = opened(tmp_path)
    entry = f"{1:020}.json"
    disk = Disk(monkeypatch, entry)
    assert table.commit([write_segment(tmp_path, [1])], {LANE: 1}) is True
    assert disk.calls.count(entry) == 2
    assert disk.written == [entry]
    assert opened(tmp_path).passed(LANE) == 1


@pytest.mark.parametrize("name", [f"{1:020}.json", "_delta_log", f"date={DAY}"])
def test_disk_that_keeps_failing_holds_commits_and_nothing_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    table = opened(tmp_path)
    with monkeypatch.context() as patch:
        Disk(patch, name, always=True)
        with pytest.raises(HoldCommitsError) as caught:
            table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    assert caught.value.code == "table_sync_failed"
    assert table.passed(LANE) is None


def test_entry_that_the_note_does_not_know_is_written_again_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process before may have met the failed sync, and ended.
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    note = TableNote(table.table_id, 1, {LANE: 1})
    table.commit([write_segment(tmp_path, [2])], {LANE: 2})
    disk = Disk(monkeypatch)
    assert opened(tmp_path, note=note).passed(LANE) == 2
    assert disk.written == [f"{2:020}.json"]


def test_checkpoint_whose_sync_fails_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, f"{2:020}.checkpoint.parquet", "_last_checkpoint")
    with_checkpoint(tmp_path, monkeypatch)
    assert {f"{2:020}.checkpoint.parquet", "_last_checkpoint"} <= set(disk.written)


def test_directory_that_cannot_be_opened_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = opened(tmp_path)
    files = [write_segment(tmp_path, [1])]
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EMFILE, "many")))
        with pytest.raises(CommitFailedError):
            table.commit(files, {LANE: 1})
    assert table.commit(files, {LANE: 1}) is True
    assert positions(tmp_path) == [1]
