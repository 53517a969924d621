"""The committer: cuts to tables, durable before the core hears of it, whatever fails."""

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from penstock.table import log_table, redaction
from penstock.table import note as notes
from penstock.table.committer import Committer
from penstock.table.errors import CommitFailedError, HoldCommitsError
from penstock.table.log_table import LogTable
from unit.table.helpers import (
    LANE,
    FakeCore,
    FakeCut,
    cut_of,
    schema_of,
    write_segment,
)


def committer_of(core: FakeCore, data_dir: Path) -> Committer:
    return Committer(core, data_dir, schema_of=schema_of, first_retry_seconds=0.001)


def rows(data_dir: Path, table: str = "events") -> list[int]:
    files = DeltaTable(data_dir / table).file_uris()
    query = "SELECT log_position FROM read_parquet(?) ORDER BY 1"
    return [row[0] for row in duckdb.execute(query, [files]).fetchall()] if files else []


def test_first_open_makes_the_tables_and_finds_nothing_committed(tmp_path: Path) -> None:
    assert committer_of(FakeCore(), tmp_path).open() == {
        "events": {},
        "rejected": {},
        "recordings": {},
    }
    assert DeltaTable(tmp_path / "events").metadata().partition_columns == ["project", "date"]
    assert DeltaTable(tmp_path / "rejected").metadata().partition_columns == ["date"]


def test_crash_between_commit_and_report_doubles_nothing(tmp_path: Path) -> None:
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    cut = cut_of(tmp_path, [1, 2], rejected=[2])
    core.cut_committed = lambda *_: (_ for _ in ()).throw(RuntimeError("crash"))  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        committer.commit_cut(cut)
    after = FakeCore()
    second = committer_of(after, tmp_path)
    passed = {LANE: 2}
    assert second.open() == {"events": passed, "rejected": passed, "recordings": {}}
    second.commit_cut(cut)
    assert rows(tmp_path) == [1, 2]
    assert rows(tmp_path, "rejected") == [2]
    assert after.committed == [(2, {"events": 2, "rejected": 2})]


def test_crash_between_the_two_tables_leaves_the_rest_for_the_next_start(tmp_path: Path) -> None:
    core = FakeCore()
    first = committer_of(core, tmp_path)
    first.open()
    cut = cut_of(tmp_path, [1], rejected=[2])
    first._tables["events"].commit(cut.files["events"], dict(cut.lanes))
    second = committer_of(core, tmp_path)
    assert second.open() == {"events": {LANE: 2}, "rejected": {}, "recordings": {}}
    # The core builds what is missing, in new files.
    second.commit_cut(cut_of(tmp_path, [], rejected=[2]))
    assert (rows(tmp_path), rows(tmp_path, "rejected")) == ([1], [2])


def test_table_without_rows_is_left_alone_until_a_release(tmp_path: Path) -> None:
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    committer.commit_cut(cut_of(tmp_path, [1]))
    assert core.committed[-1] == (1, {"events": 1})
    assert DeltaTable(tmp_path / "rejected").version() == 0
    committer.commit_cut(cut_of(tmp_path, [2], releases=True))
    assert core.committed[-1] == (2, {"events": 2, "rejected": 2, "recordings": 2})
    assert DeltaTable(tmp_path / "rejected").transaction_version(LANE) == 2


def test_table_of_recordings_costs_nothing_before_its_first_row(tmp_path: Path) -> None:
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    committer.commit_cut(cut_of(tmp_path, [1], releases=True))
    # The log may go: nothing of the table is in it.
    assert core.committed == [(1, {"events": 1, "rejected": 1, "recordings": 1})]
    assert not (tmp_path / "recordings").exists()
    assert "recordings" not in notes.decode(core.note).tables

    committer.commit_cut(cut_of(tmp_path, [2], recordings=[3]))
    assert core.committed[-1] == (3, {"events": 3, "recordings": 3})
    table = DeltaTable(tmp_path / "recordings")
    assert table.metadata().partition_columns == ["project", "date"]
    assert table.transaction_version(LANE) == 3
    assert rows(tmp_path, "recordings") == [3]
    assert notes.decode(core.note).tables["recordings"].txns == {LANE: 3}

    after = FakeCore(note=core.note)
    second = committer_of(after, tmp_path)
    assert second.open()["recordings"] == {LANE: 3}
    second.commit_cut(cut_of(tmp_path, [4]))
    assert table.version() == DeltaTable(tmp_path / "recordings").version()


def test_table_of_recordings_whose_making_failed_is_made_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    cut = cut_of(tmp_path, [1], recordings=[2])
    create = DeltaTable.create

    def made_and_not_told(*arguments: Any, **options: Any) -> DeltaTable:
        create(*arguments, **options)
        raise OSError("the answer is lost")

    monkeypatch.setattr(DeltaTable, "create", made_and_not_told)
    with pytest.raises(CommitFailedError):
        committer.commit_cut(cut)
    monkeypatch.undo()
    committer.commit_cut(cut)
    assert (rows(tmp_path), rows(tmp_path, "recordings")) == ([1], [2])
    assert core.committed == [(2, {"events": 2, "recordings": 2})]


def test_table_of_recordings_that_is_gone_holds_commits(tmp_path: Path) -> None:
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    committer.commit_cut(cut_of(tmp_path, [1], recordings=[2]))
    shutil.rmtree(tmp_path / "recordings")
    second = committer_of(FakeCore(note=core.note), tmp_path)
    second.open()
    assert second.held == "table_missing"


def test_core_hears_of_a_cut_only_after_everything_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    cut = cut_of(tmp_path, [1], rejected=[1])
    fsync = os.fsync

    def record(descriptor: int) -> None:
        core.trace.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    committer.commit_cut(cut)
    assert core.trace[-1] == "cut_committed"
    assert core.trace.count(f"{1:020}.json") == 2
    assert core.trace.count("_delta_log") == 2


def test_note_says_what_the_tables_passed(tmp_path: Path) -> None:
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    committer.commit_cut(cut_of(tmp_path, [3]))
    note = notes.decode(core.note)
    assert note.tables["events"].txns == {LANE: 3}
    assert note.tables["events"].version == 1
    assert note.tables["rejected"].txns == {}


def test_table_that_went_back_holds_commits_and_start_goes_on(tmp_path: Path) -> None:
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    committer.commit_cut(cut_of(tmp_path, [1]))
    (tmp_path / "events/_delta_log" / f"{1:020}.json").unlink()
    again = committer_of(core, tmp_path)
    committed = again.open()
    assert again.held == "table_went_back"
    assert core.holds
    assert "version 0" in str(core.holds[-1])
    # What the log may not replay into a table that someone set back.
    assert committed["events"] == {LANE: 1}
    assert "penstock_table_commits_held 1" in again.metrics()


def test_unreadable_note_holds_commits(tmp_path: Path) -> None:
    core = FakeCore(note=b"{")
    committer = committer_of(core, tmp_path)
    assert committer.open() == {"events": {}, "rejected": {}, "recordings": {}}
    assert committer.held == "note_unreadable"
    # A table made anew here would look as if nothing had ever been committed.
    assert not (tmp_path / "events").exists()


class _Waiting(FakeCore):
    """Says when it is told of a cut, or told to hold."""

    def __init__(self, **named):
        super().__init__(**named)
        self.changed = threading.Event()

    def cut_committed(self, position, committed, note):
        super().cut_committed(position, committed, note)
        if not self.cuts:
            self.changed.set()

    def hold_commits(self, reason):
        super().hold_commits(reason)
        self.changed.set()

    def next_cut(self, timeout_ms):
        if not self.cuts:
            threading.Event().wait(0.001)
        return super().next_cut(timeout_ms)


def test_thread_commits_cuts_and_stops(tmp_path: Path) -> None:
    core = _Waiting()
    committer = committer_of(core, tmp_path)
    committer.open()
    core.cuts += [cut_of(tmp_path, [1]), cut_of(tmp_path, [2])]
    committer.start()
    assert core.changed.wait(10)
    committer.stop(10)
    assert rows(tmp_path) == [1, 2]
    assert 'penstock_table_rows_total{table="events"} 2' in committer.metrics()


def test_cut_that_fails_is_tried_again_until_it_lands(tmp_path: Path) -> None:
    core = _Waiting()
    committer = committer_of(core, tmp_path)
    committer.open()
    core.cuts.append(cut_of(tmp_path, [1]))
    table = committer._tables["events"]
    commit = table.commit
    failures = [OSError("disk"), MemoryError(), OSError("disk")]

    def failing(*arguments):
        if failures:
            raise failures.pop()
        return commit(*arguments)

    table.commit = failing  # type: ignore[method-assign]
    committer.start()
    assert core.changed.wait(10)
    committer.stop(10)
    assert rows(tmp_path) == [1]
    assert "penstock_table_commit_failures_total 3" in committer.metrics()


def test_another_writer_on_our_lane_holds_the_thread(tmp_path: Path) -> None:
    core = _Waiting()
    committer = committer_of(core, tmp_path)
    committer.open()
    committer_of(FakeCore(), tmp_path).open()
    other = committer_of(FakeCore(), tmp_path)
    other.open()
    other.commit_cut(FakeCut(5, [(LANE, 5)], {"events": [write_segment(tmp_path, [5])]}))
    core.cuts.append(cut_of(tmp_path, [6]))
    committer.start()
    assert core.changed.wait(10)
    committer.stop(10)
    assert committer.held == "transaction_moved"
    assert core.committed == []
    assert rows(tmp_path) == [5]


@pytest.mark.parametrize("data", [b"[]", b'{"format": 2}', b"\0"])
def test_note_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        notes.decode(data)


def test_note_reads_back_and_keeps_the_newest_lanes() -> None:
    note = notes.Note({"events": notes.TableNote("id", 3, {LANE: 1})})
    assert notes.decode(notes.encode(note)) == note
    many = {f"{number:032x}": number for number in range(notes.MAX_LANES + 1)}
    kept = notes.newest_lanes(many)
    assert len(kept) == notes.MAX_LANES
    assert f"{0:032x}" not in kept


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch):
    """Makes the opening of a table fail as long as it is in the set."""
    refused: set[str] = set()
    open_table = LogTable.open

    def open_or_refuse(table, note, lanes):
        if table.name in refused:
            raise OSError(errno.EMFILE, "Too many open files")
        return open_table(table, note, lanes)

    monkeypatch.setattr(LogTable, "open", open_or_refuse)
    return refused


def test_table_that_cannot_be_opened_for_a_moment_is_opened_by_the_thread(
    tmp_path: Path, refusing
) -> None:
    core = _Waiting()
    refusing.add("events")
    committer = committer_of(core, tmp_path)
    assert committer.open() == {"events": {}, "rejected": {}, "recordings": {}}
    assert committer.held == "table_not_open"
    assert core.holds == ["table_not_open: events"]
    assert "penstock_table_commits_held 1" in committer.metrics()
    committer.start()
    core.cuts.append(cut_of(tmp_path, [1]))
    assert committer.held == "table_not_open"
    core.changed.clear()
    refusing.clear()
    assert core.changed.wait(10)
    committer.stop(10)
    assert core.holds[-1] is None
    assert committer.held is None
    assert "penstock_table_commits_held 0" in committer.metrics()
    assert rows(tmp_path) == [1]


def test_late_opening_of_a_known_table_goes_on_from_the_note(tmp_path: Path, refusing) -> None:
    core = _Waiting()
    first = committer_of(core, tmp_path)
    first.open()
    first.commit_cut(cut_of(tmp_path, [1, 2]))
    refusing.add("events")
    second = committer_of(core, tmp_path)
    assert second.open() == {"events": {LANE: 2}, "rejected": {}, "recordings": {}}
    refusing.clear()
    core.cuts.append(cut_of(tmp_path, [3]))
    second._step()
    assert second.held is None
    assert rows(tmp_path) == [1, 2, 3]


def test_late_opening_of_a_table_with_more_than_the_note_holds_until_a_restart(
    tmp_path: Path, refusing
) -> None:
    # A commit landed before the crash and was not noted: the core, which was told of the note
    # alone, builds its rows again.
    core = _Waiting()
    first = committer_of(core, tmp_path)
    first.open()
    first.commit_cut(cut_of(tmp_path, [1]))
    landed = cut_of(tmp_path, [2])
    first._tables["events"].commit(landed.files["events"], dict(landed.lanes))
    refusing.add("events")
    second = committer_of(core, tmp_path)
    assert second.open()["events"] == {LANE: 1}
    core.cuts.append(cut_of(tmp_path, [2]))
    refusing.clear()
    second.start()
    assert core.changed.wait(10)
    second.stop(10)
    assert second.held == "restart_needed"
    assert "restart" in str(core.holds[-1])
    assert rows(tmp_path) == [1, 2]
    third = committer_of(_Waiting(note=core.note), tmp_path)
    assert third.open()["events"] == {LANE: 2}
    assert third.held is None


class PanicError(BaseException):
    """What a panic of the library looks like."""


def test_panic_while_opening_holds_commits_and_does_not_end_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(*_arguments):
        raise PanicError

    monkeypatch.setattr(LogTable, "_open_synced", panic)
    committer = committer_of(FakeCore(), tmp_path)
    committer.open()
    assert committer.held == "table_unreadable"


@pytest.mark.parametrize("table", ["events", "rejected", "recordings"])
def test_cut_whose_file_is_lost_is_discarded_and_built_anew(tmp_path: Path, table: str) -> None:
    core = _Waiting()
    committer = committer_of(core, tmp_path)
    committer.open()
    cut = cut_of(tmp_path, [1], rejected=[2], recordings=[2])
    (tmp_path / table / cut.files[table][0].path).unlink()
    core.cuts.append(cut)
    rebuilt = threading.Event()

    def discard_cut(position: int) -> None:
        FakeCore.discard_cut(core, position)
        core.cuts.append(cut_of(tmp_path, [1], rejected=[2], recordings=[2]))
        rebuilt.set()

    core.discard_cut = discard_cut  # type: ignore[method-assign]
    committer.start()
    assert core.changed.wait(10)
    committer.stop(10)
    assert rebuilt.is_set()
    assert core.discarded == [2]
    assert committer.held is None
    assert (rows(tmp_path), rows(tmp_path, "rejected")) == ([1], [2])
    assert rows(tmp_path, "recordings") == [2]
    assert "penstock_table_cuts_discarded_total 1" in committer.metrics()


def test_cut_that_is_half_committed_when_a_file_is_lost_is_not_discarded(tmp_path: Path) -> None:
    # Built anew, it would bring the rows of the first table once more.
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    cut = cut_of(tmp_path, [1], rejected=[2])
    core.cuts.append(cut)
    committer._tables["events"].commit(cut.files["events"], dict(cut.lanes))
    (tmp_path / "rejected" / cut.files["rejected"][0].path).unlink()
    with pytest.raises(HoldCommitsError) as caught:
        committer._step()
    assert caught.value.code == "cut_half_lost"
    assert core.discarded == []


def test_cut_in_all_tables_is_reported_though_its_files_are_gone(tmp_path: Path) -> None:
    # A vacuum of another writer, between the commit and a report that failed.
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    cut = cut_of(tmp_path, [1])
    committer._tables["events"].commit(cut.files["events"], dict(cut.lanes))
    (tmp_path / "events" / cut.files["events"][0].path).unlink()
    committer.commit_cut(cut)
    assert core.committed == [(1, {"events": 1})]


TOKEN = "phc_secret_token"


def test_no_token_is_logged_when_a_commit_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = _Waiting()
    committer = committer_of(core, tmp_path)
    committer.open()
    failures = ["project=phc_secret_token/date=2026-01-02/x", '{"project": "phc_secret_token"}']

    class Failing:
        def __init__(self, table):
            self.table = table

        def __getattr__(self, name):
            return getattr(self.table, name)

        def create_write_transaction(self, *_arguments, **_named):
            raise RuntimeError(failures.pop())

    make = DeltaTable
    monkeypatch.setattr(
        log_table, "DeltaTable", lambda path: Failing(make(path)) if failures else make(path)
    )
    committer._tables["events"]._table = None
    core.cuts.append(cut_of(tmp_path, [1], project=TOKEN))
    committer.start()
    assert core.changed.wait(10)
    committer.stop(10)
    records = [
        (record.message, getattr(record, "penstock_fields", {})) for record in caplog.records
    ]
    assert "commit_failed" in [message for message, _ in records]
    assert "RuntimeError" in str(records)
    assert TOKEN not in str(records)
    assert not any(record.exc_info for record in caplog.records)
    assert rows(tmp_path) == [1]


@pytest.mark.parametrize(
    "text",
    [
        f"no file /data/events/project={TOKEN}/date=2026-01-02/a.parquet",
        f"no file 'project%3D{TOKEN}%2Fdate'",
        f"project%253D{TOKEN}",
        f'{{"add":{{"partitionValues":{{"date":"x","project":"{TOKEN}"}}}}',
        f'stats "{{\\"project\\": \\"{TOKEN}\\"}}"',
    ],
)
def test_partition_values_are_taken_out_of_texts(text: str) -> None:
    assert TOKEN not in redaction.redacted(text)
    assert len(redaction.redacted(text)) > 10


def test_nothing_is_removed_while_commits_are_held(tmp_path: Path, refusing) -> None:
    committer_of(FakeCore(), tmp_path).open()
    orphan = tmp_path / "rejected" / write_segment(tmp_path, [4], table="rejected").path
    refusing.add("events")
    committer_of(FakeCore(), tmp_path).open()
    assert orphan.exists()
    refusing.clear()
    committer_of(FakeCore(), tmp_path).open()
    assert not orphan.exists()


def test_note_says_up_to_where_all_tables_have_all_rows(tmp_path: Path) -> None:
    # A restart may find one table ahead: then the cuts that follow reach less far than it does.
    core = FakeCore()
    committer = committer_of(core, tmp_path)
    committer.open()
    committer.commit_cut(cut_of(tmp_path, [1, 2]))
    assert notes.decode(core.note).complete == {LANE: 2}
    ahead = cut_of(tmp_path, [3, 4], rejected=[3, 4])
    committer._tables["events"].commit(ahead.files["events"], dict(ahead.lanes))
    again = committer_of(core, tmp_path)
    assert again.open()["events"] == {LANE: 4}
    again.commit_cut(cut_of(tmp_path, [], rejected=[3]))
    note = notes.decode(core.note)
    assert note.tables["events"].txns == {LANE: 4}
    assert note.complete == {LANE: 3}
