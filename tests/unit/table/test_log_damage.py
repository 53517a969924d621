"""Entries and checkpoints of a table's log that a power cut tore."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from penstock.table import log_table
from penstock.table.errors import CommitFailedError, HoldCommitsError
from penstock.table.log_files import ASIDE_FOLDER, LogFiles
from penstock.table.note import TableNote
from unit.table.helpers import (
    LANE,
    OTHER_LANE,
    opened,
    positions,
    tear,
    with_checkpoint,
    write_segment,
)


@pytest.mark.parametrize("how", ["empty", "short", "zeros"])
def test_torn_newest_entry_is_moved_aside_and_committed_again(tmp_path: Path, how: str) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    note = TableNote(table.table_id, table.version, {LANE: 1})
    files = [write_segment(tmp_path, [2])]
    table.commit(files, {LANE: 2})
    tear(tmp_path / "events/_delta_log" / f"{2:020}.json", how)
    again = opened(tmp_path, note=note)
    assert again.passed(LANE) == 1
    assert len(list((tmp_path / "events" / ASIDE_FOLDER).iterdir())) == 1
    again.commit(files, {LANE: 2})
    assert positions(tmp_path) == [1, 2]


def test_torn_entry_that_was_once_synced_holds_commits(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    tear(tmp_path / "events/_delta_log" / f"{1:020}.json", "empty")
    with pytest.raises(HoldCommitsError) as caught:
        opened(tmp_path, note=TableNote(table.table_id, 1, {LANE: 1}))
    assert caught.value.code == "table_damaged"


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_entry_torn_at_the_end_of_a_line_is_no_entry(tmp_path: Path) -> None:
    # Every line of it reads well: with the files in and a transaction missing, rows come twice.
    table = opened(tmp_path, lanes=[LANE, OTHER_LANE])
    files = [write_segment(tmp_path, [1]), write_segment(tmp_path, [2], lane=OTHER_LANE)]
    txns = {LANE: 1, OTHER_LANE: 2}
    table.commit(files, txns)
    entry = tmp_path / "events/_delta_log" / f"{1:020}.json"
    lines = lines_of(entry)
    assert len(lines) == 5
    for kept in range(1, len(lines)):
        entry.write_bytes(b"".join(lines[:kept]))
        again = opened(tmp_path, lanes=[LANE, OTHER_LANE])
        assert (again.passed(LANE), again.passed(OTHER_LANE)) == (None, None), kept
        again.commit(files, txns)
        assert positions(tmp_path) == [1, 2], kept
        lines = lines_of(entry)


def test_entry_of_another_writer_that_names_our_files_is_whole(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    table.commit([write_segment(tmp_path, [2])], {LANE: 2})
    delta = DeltaTable(tmp_path / "events")
    delta.delete("log_position = 1")
    # Names the removed file once more, with no transaction.
    delta.restore(2)
    assert opened(tmp_path).passed(LANE) == 2
    assert positions(tmp_path) == [1, 2]


def test_several_torn_entries_are_all_moved_aside(tmp_path: Path) -> None:
    table = opened(tmp_path)
    for position in (1, 2, 3):
        table.commit([write_segment(tmp_path, [position])], {LANE: position})
    for position in (2, 3):
        tear(tmp_path / "events/_delta_log" / f"{position:020}.json", "short")
    assert opened(tmp_path).passed(LANE) == 1
    assert len(list((tmp_path / "events" / ASIDE_FOLDER).iterdir())) == 2


def test_torn_entry_below_a_whole_one_holds_commits(tmp_path: Path) -> None:
    # The library opens an empty entry as a version without actions: its rows would be missing.
    table = opened(tmp_path)
    for position in (1, 2):
        table.commit([write_segment(tmp_path, [position])], {LANE: position})
    tear(tmp_path / "events/_delta_log" / f"{1:020}.json", "empty")
    with pytest.raises(HoldCommitsError) as caught:
        opened(tmp_path)
    assert caught.value.code == "table_damaged"


def test_torn_creation_is_repeated(tmp_path: Path) -> None:
    opened(tmp_path)
    tear(tmp_path / "events/_delta_log" / f"{0:020}.json", "empty")
    table = opened(tmp_path)
    assert table.commit([write_segment(tmp_path, [1])], {LANE: 1})


def test_checkpoint_is_made_when_due_and_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_checkpoint(tmp_path, monkeypatch)
    files.entry(0).unlink()
    files.entry(1).unlink()
    assert opened(tmp_path).passed(LANE) == 3
    assert positions(tmp_path) == [1, 2, 3]


def test_no_checkpoint_is_made_by_the_library(tmp_path: Path) -> None:
    opened(tmp_path)
    DeltaTable(tmp_path / "events").alter.set_table_properties({"delta.checkpointInterval": "3"})
    table = opened(tmp_path)
    for position in range(1, 6):
        table.commit([], {LANE: position})
    assert LogFiles(tmp_path / "events").checkpoints() == {}


@pytest.mark.parametrize("how", ["empty", "short", "zeros"])
def test_torn_checkpoint_is_moved_aside_if_all_entries_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    files = with_checkpoint(tmp_path, monkeypatch)
    tear(files.checkpoints()[2][0], how)
    assert opened(tmp_path).passed(LANE) == 3
    assert files.checkpoints() == {}
    assert files.named_checkpoint() is None


def test_checkpoint_torn_in_the_middle_is_moved_aside_if_all_entries_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It begins and ends as Parquet does.
    files = with_checkpoint(tmp_path, monkeypatch)
    path = files.checkpoints()[2][0]
    data = path.read_bytes()
    for start in range(4, len(data) - 8, 512):
        end = min(start + 512, len(data) - 8)
        path.write_bytes(data[:start] + bytes(end - start) + data[end:])
        (files.directory / "_last_checkpoint").unlink(missing_ok=True)
        table = opened(tmp_path)
        assert table.passed(LANE) == 3
        assert positions(tmp_path) == [1, 2, 3]
    assert files.checkpoints() == {} or path.exists()
    assert list((tmp_path / "events" / ASIDE_FOLDER).iterdir())


def test_checkpoint_torn_in_the_middle_without_its_entries_holds_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_checkpoint(tmp_path, monkeypatch)
    path = files.checkpoints()[2][0]
    path.write_bytes(path.read_bytes()[:4] + bytes(100) + path.read_bytes()[104:])
    files.entry(0).unlink()
    with pytest.raises(HoldCommitsError) as caught:
        opened(tmp_path)
    assert caught.value.code == "table_unreadable"
    assert path.exists()


def test_older_checkpoint_serves_when_the_newest_is_torn_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_table, "CHECKPOINT_EVERY", 2)
    table = opened(tmp_path)
    for position in range(1, 5):
        table.commit([write_segment(tmp_path, [position])], {LANE: position})
        table.checkpoint_if_due()
    files = LogFiles(tmp_path / "events")
    older, newest = sorted(files.checkpoints())
    for version in range(older):
        files.entry(version).unlink()
    path = files.checkpoints()[newest][0]
    path.write_bytes(path.read_bytes()[:4] + bytes(100) + path.read_bytes()[104:])
    assert opened(tmp_path).passed(LANE) == 4
    assert positions(tmp_path) == [1, 2, 3, 4]


def test_open_that_the_system_refuses_moves_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_checkpoint(tmp_path, monkeypatch)

    def refuse(*_arguments):
        raise OSError("Too many open files (os error 24)")

    monkeypatch.setattr(log_table, "DeltaTable", refuse)
    with pytest.raises(OSError, match="Too many"):
        opened(tmp_path)
    assert files.newest_checkpoint() == 2


def test_torn_checkpoint_without_its_entries_holds_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_checkpoint(tmp_path, monkeypatch)
    tear(files.checkpoints()[2][0], "empty")
    files.entry(0).unlink()
    with pytest.raises(HoldCommitsError) as caught:
        opened(tmp_path)
    assert caught.value.code == "table_damaged"


def test_named_checkpoint_that_is_missing_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_checkpoint(tmp_path, monkeypatch)
    files.checkpoints()[2][0].unlink()
    assert opened(tmp_path).passed(LANE) == 3


def test_checkpoint_that_reads_otherwise_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(_table):
        raise CommitFailedError("checkpoint_differs", "it does")

    monkeypatch.setattr(log_table.LogTable, "_read_back", differs)
    monkeypatch.setattr(log_table, "CHECKPOINT_EVERY", 1)
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    assert table.checkpoint_if_due() is False
    assert LogFiles(tmp_path / "events").checkpoints() == {}
    assert table.commit([write_segment(tmp_path, [2])], {LANE: 2})
