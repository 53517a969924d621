"""Committing to one table: exactly once (TAB-1), and what stops it."""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest
from deltalake import DeltaTable
from deltalake.schema import Field, PrimitiveType

from penstock.table import checks, log_table
from penstock.table.errors import CommitFailedError, CutFilesLostError, HoldCommitsError
from penstock.table.note import TableNote
from penstock.table.schema import TableSchema
from unit.table.helpers import (
    DAY,
    LANE,
    OTHER_LANE,
    FakeFile,
    commit_by_another,
    opened,
    positions,
    schema_of,
    write_segment,
)


def test_same_cut_given_twice_is_committed_once(tmp_path: Path) -> None:
    table = opened(tmp_path)
    files = [write_segment(tmp_path, [1, 2])]
    assert table.commit(files, {LANE: 2}) is True
    assert table.commit(files, {LANE: 2}) is False
    assert positions(tmp_path) == [1, 2]


def test_cut_given_again_after_a_crash_is_committed_once(tmp_path: Path) -> None:
    files = [write_segment(tmp_path, [1, 2])]
    opened(tmp_path).commit(files, {LANE: 2})
    again = opened(tmp_path)
    assert again.passed(LANE) == 2
    assert again.commit(files, {LANE: 2}) is False
    assert positions(tmp_path) == [1, 2]


def test_transactions_alone_can_be_committed(tmp_path: Path) -> None:
    table = opened(tmp_path)
    assert table.commit([], {LANE: 7, OTHER_LANE: 9})
    assert DeltaTable(tmp_path / "events").transaction_version(OTHER_LANE) == 9
    assert positions(tmp_path) == []


def test_a_lane_that_is_ahead_of_the_cut_never_goes_back(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([], {LANE: 7})
    assert table.commit([], {LANE: 5}) is False
    assert table.commit([], {LANE: 5, OTHER_LANE: 9}) is True
    assert DeltaTable(tmp_path / "events").transaction_version(LANE) == 7


class _Failing:
    """A table object whose commit raises, before or after it landed."""

    def __init__(self, table: DeltaTable, *, landed: bool) -> None:
        self._table = table
        self._landed = landed

    def create_write_transaction(self, *arguments, **named):
        if self._landed:
            self._table.create_write_transaction(*arguments, **named)
        raise OSError("the answer was lost")

    def __getattr__(self, name: str):
        return getattr(self._table, name)


def test_commit_that_landed_before_the_exception_is_not_repeated(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table._table = _Failing(DeltaTable(tmp_path / "events"), landed=True)  # type: ignore[assignment]
    assert table.commit([write_segment(tmp_path, [1])], {LANE: 1}) is True
    assert positions(tmp_path) == [1]
    assert table.passed(LANE) == 1


def test_commit_that_did_not_land_is_tried_again(tmp_path: Path) -> None:
    table = opened(tmp_path)
    files = [write_segment(tmp_path, [1])]
    table._table = _Failing(DeltaTable(tmp_path / "events"), landed=False)  # type: ignore[assignment]
    with pytest.raises(CommitFailedError):
        table.commit(files, {LANE: 1})
    assert table.commit(files, {LANE: 1}) is True
    assert positions(tmp_path) == [1]


class _Forgetting:
    """A table object whose commit says that it is done and was never written."""

    def __init__(self, table: DeltaTable) -> None:
        self._table = table

    def create_write_transaction(self, *arguments, **named) -> None:
        pass

    def __getattr__(self, name: str):
        return getattr(self._table, name)


def test_commit_that_only_said_it_landed_is_tried_again(tmp_path: Path) -> None:
    table = opened(tmp_path)
    files = [write_segment(tmp_path, [1])]
    table._table = _Forgetting(DeltaTable(tmp_path / "events"))  # type: ignore[assignment]
    with pytest.raises(CommitFailedError):
        table.commit(files, {LANE: 1})
    assert table.commit(files, {LANE: 1}) is True
    assert positions(tmp_path) == [1]


def test_commit_in_doubt_whose_reopen_fails_too_is_settled_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = opened(tmp_path)
    files = [write_segment(tmp_path, [1])]
    table._table = _Failing(DeltaTable(tmp_path / "events"), landed=True)  # type: ignore[assignment]
    with monkeypatch.context() as patch:
        patch.setattr(table, "_open_synced", lambda _: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(CommitFailedError):
            table.commit(files, {LANE: 1})
    assert table.commit(files, {LANE: 1}) is False
    assert positions(tmp_path) == [1]


def test_another_writer_on_our_lane_holds_commits(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    commit_by_another(tmp_path, LANE, 5)
    with pytest.raises(HoldCommitsError) as caught:
        table.commit([write_segment(tmp_path, [6])], {LANE: 6})
    assert caught.value.code == "transaction_moved"
    assert positions(tmp_path) == [1]


def test_writer_between_check_and_commit_makes_it_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = opened(tmp_path)

    def check_then_race(*arguments):
        commit_by_another(tmp_path, LANE, 5)
        return log_table_check(*arguments)

    log_table_check = checks.check_files
    monkeypatch.setattr(log_table, "check_files", check_then_race)
    with pytest.raises(HoldCommitsError):
        table.commit([write_segment(tmp_path, [6])], {LANE: 6})
    assert positions(tmp_path) == []


def test_another_writer_on_another_lane_does_no_harm(tmp_path: Path) -> None:
    table = opened(tmp_path)
    commit_by_another(tmp_path, OTHER_LANE, 5)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    assert positions(tmp_path) == [1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": 9}, "table_went_back"),
        ({"id": "another"}, "table_replaced"),
        ({"txns": {LANE: 9}}, "transaction_missing"),
        ({"txns": {OTHER_LANE: 1}}, "transaction_missing"),
    ],
)
def test_table_that_is_not_as_the_note_says_holds_commits(
    tmp_path: Path, change: dict[str, Any], code: str
) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    true: dict[str, Any] = {"id": table.table_id, "version": 1, "txns": {LANE: 1}}
    opened(tmp_path, note=TableNote(**true))
    with pytest.raises(HoldCommitsError) as caught:
        opened(tmp_path, note=TableNote(**(true | change)))
    assert caught.value.code == code


def test_table_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(HoldCommitsError) as caught:
        opened(tmp_path, note=TableNote("id", 3, {LANE: 1}))
    assert caught.value.code == "table_missing"


BAD = {
    "size": lambda file: setattr(file, "size_bytes", file.size_bytes + 1),
    "missing": lambda file: setattr(file, "path", file.path + "x"),
    "outside": lambda file: setattr(file, "path", "../" + file.path),
    "stats": lambda file: setattr(file, "stats_json", "{"),
    "rows": lambda file: setattr(file, "rows", 5),
    "key": lambda file: file.partition_values.pop("date"),
    "project": lambda file: file.partition_values.update(project=""),
    "year": lambda file: file.partition_values.update(date="10000-01-01"),
    "signed": lambda file: file.partition_values.update(date="+10000-01-01"),
    "short date": lambda file: file.partition_values.update(date="20260102"),
}


@pytest.mark.parametrize("bad", BAD)
def test_file_that_would_spoil_the_table_is_not_committed(tmp_path: Path, bad: str) -> None:
    table = opened(tmp_path)
    file: FakeFile = write_segment(tmp_path, [1])
    BAD[bad](file)
    with pytest.raises(CommitFailedError) as caught:
        table.commit([file], {LANE: 1})
    # Those that are gone or cut short are built again; the others would come out the same.
    lost = bad in {"size", "missing"}
    assert isinstance(caught.value, CutFilesLostError) == lost
    assert caught.value.code == ("cut_file_lost" if lost else "file_check_failed")
    assert DeltaTable(tmp_path / "events").version() == 0


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_first_and_last_day_are_committed(tmp_path: Path, day: str) -> None:
    table = opened(tmp_path)
    assert table.commit([write_segment(tmp_path, [1], date=day)], {LANE: 1})
    assert opened(tmp_path).passed(LANE) == 1


def test_table_with_other_columns_holds_commits(tmp_path: Path) -> None:
    opened(tmp_path)
    schema = json.loads(schema_of("events").schema_json)
    schema["fields"][2]["type"] = "long"
    table = log_table.LogTable(tmp_path, TableSchema("events", json.dumps(schema)))
    with pytest.raises(HoldCommitsError) as caught:
        table.open(None, [LANE])
    assert caught.value.code == "schema_changed"


ODD = [
    "a/b",
    "a=b",
    "100%",
    "a%20b",
    "a b",
    "日本",
    "..",
    "~",
    "a?b#c",
    "12",
    "it's",
    'q"q',
    "a\nb",
]


def test_odd_project_names_read_back_right_in_three_engines(tmp_path: Path) -> None:
    table = opened(tmp_path)
    for position, project in enumerate(ODD, 1):
        file = write_segment(tmp_path, [position], project=project)
        table.commit([file], {LANE: position})
    delta = DeltaTable(tmp_path / "events")
    assert sorted(part["project"] for part in delta.partitions()) == sorted(ODD)
    frame = polars.scan_delta(str(tmp_path / "events")).sort("log_position").collect()
    assert frame["project"].to_list() == ODD
    assert {str(day) for day in frame["date"]} == {DAY}
    query = (
        "SELECT project FROM read_parquet(?, hive_partitioning = true, "
        "hive_types = {project: VARCHAR, date: DATE}) ORDER BY log_position"
    )
    assert [row[0] for row in duckdb.execute(query, [delta.file_uris()]).fetchall()] == ODD


@pytest.mark.parametrize(
    ("first", "txns"),
    [
        (2, {LANE: 5}),
        (3, {LANE: 5}),
        (3, {LANE: 3, OTHER_LANE: 5}),
        (1, {LANE: 3, OTHER_LANE: 5}),
    ],
)
def test_file_with_rows_that_are_committed_holds_commits(
    tmp_path: Path, first: int, txns: dict[str, int]
) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1, 2, 3])], {LANE: 3})
    with pytest.raises(HoldCommitsError) as caught:
        table.commit([write_segment(tmp_path, [first, 4, 5])], txns)
    assert caught.value.code == "cut_overlaps"
    assert positions(tmp_path) == [1, 2, 3]


def test_file_with_rows_beyond_its_cut_holds_commits(tmp_path: Path) -> None:
    table = opened(tmp_path)
    with pytest.raises(HoldCommitsError) as caught:
        table.commit([write_segment(tmp_path, [1, 2, 3])], {LANE: 2})
    assert caught.value.code == "cut_overlaps"


def test_rows_right_behind_the_committed_ones_are_committed(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1, 2, 3])], {LANE: 3})
    assert table.commit([write_segment(tmp_path, [4, 5])], {LANE: 4, OTHER_LANE: 5})
    # A lane that went on elsewhere, in a copy of the log, has rows of other lanes' positions.
    table = opened(tmp_path, lanes=[LANE, OTHER_LANE])
    third = "0" * 31 + "c"
    commit_by_another(tmp_path, LANE, 9)
    table = opened(tmp_path, lanes=[LANE, OTHER_LANE])
    assert table.commit(
        [write_segment(tmp_path, [6, 7], lane=third)], {LANE: 4, OTHER_LANE: 5, third: 7}
    )
    assert positions(tmp_path) == [1, 2, 3, 4, 5, 6, 7]


def test_log_set_back_while_it_is_open_holds_commits(tmp_path: Path) -> None:
    # An update of the open table would not notice, and commit on top of what is gone.
    table = opened(tmp_path)
    for position in (1, 2):
        table.commit([write_segment(tmp_path, [position])], {LANE: position})
    (tmp_path / "events/_delta_log" / f"{2:020}.json").unlink()
    with pytest.raises(HoldCommitsError) as caught:
        table.commit([write_segment(tmp_path, [3])], {LANE: 3})
    assert caught.value.code == "table_went_back"


def test_entry_replaced_by_another_is_noticed(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    (tmp_path / "events/_delta_log" / f"{1:020}.json").unlink()
    commit_by_another(tmp_path, LANE, 7)
    with pytest.raises(HoldCommitsError) as caught:
        table.commit([write_segment(tmp_path, [8])], {LANE: 8})
    assert caught.value.code == "transaction_moved"


def test_entry_put_back_as_it_was_is_no_reason_to_stop(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    entry = tmp_path / "events/_delta_log" / f"{1:020}.json"
    data = entry.read_bytes()
    entry.unlink()
    entry.write_bytes(data)
    assert table.commit([write_segment(tmp_path, [2])], {LANE: 2})
    assert positions(tmp_path) == [1, 2]


@pytest.mark.parametrize("reopened", [False, True])
def test_columns_changed_while_the_table_is_open_hold_commits(
    tmp_path: Path, *, reopened: bool
) -> None:
    table = opened(tmp_path)
    other = schema_of("events").schema_json.replace('"uuid"', '"renamed"')
    delta = DeltaTable(tmp_path / "events")
    entry = tmp_path / "events/_delta_log" / f"{1:020}.json"
    metadata = {
        "id": str(delta.metadata().id),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": other,
        "partitionColumns": ["project", "date"],
        "configuration": {},
    }
    entry.write_text(json.dumps({"metaData": metadata}) + "\n")
    if reopened:
        table._table = None
    with pytest.raises(HoldCommitsError) as caught:
        table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    assert caught.value.code == "schema_changed"


def test_another_writers_columns_beside_ours_do_no_harm(tmp_path: Path) -> None:
    table = opened(tmp_path)
    DeltaTable(tmp_path / "events").alter.add_columns(
        [Field("theirs", PrimitiveType("string"), nullable=True)]
    )
    assert table.commit([write_segment(tmp_path, [1])], {LANE: 1})


def test_the_hundredth_commit_costs_what_the_tenth_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library goes through the entries since the checkpoint that an object was opened with."""
    assert log_table.CHECKPOINT_EVERY <= 50
    monkeypatch.setattr(log_table, "CHECKPOINT_EVERY", 10)
    table = opened(tmp_path)
    costs = []
    for position in range(1, 151):
        files = [write_segment(tmp_path, [position])]
        began = time.process_time()
        table.commit(files, {LANE: position})
        costs.append(time.process_time() - began)
        table.checkpoint_if_due()
    # Of whole turns between two checkpoints; CPU time, so that a busy machine makes no difference.
    first, last = statistics.median(costs[10:40]), statistics.median(costs[-30:])
    assert last < first * 2, (first, last)
