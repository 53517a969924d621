"""Commits that land and raise, and other programs that write to the table meanwhile (TAB-1).

All with the real library, in one process: a thousand doubts cost half a minute, not an hour.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from penstock.table import log_table
from penstock.table.errors import CommitFailedError, CutFilesLostError, HoldCommitsError
from penstock.table.log_table import LogTable
from penstock.table.query import run_query
from support.core import EVENT, batch, stepped_committer
from unit.table.helpers import LANE, opened, positions, write_segment

pytestmark = [pytest.mark.durability, pytest.mark.timeout(300)]

# A thousand, in tables of their own: each doubt opens a table anew, which takes the longer the more
# entries it has.
TABLES = 4
DOUBTS_PER_TABLE = 250
# A file for each tenth: what is in doubt is the transaction, with rows or without.
ROWS_EVERY = 10
MAX_TRIES = 5
# Each is a wait of up to 250 ms for a cut.
MAX_STEPS = 120


def commit_until_it_lands(table: LogTable, data_dir: Path, position: int) -> int:
    """Commit one row as the committer's thread does: again, with the same file. How many tries."""
    file = write_segment(data_dir, [position])
    for tries in range(1, MAX_TRIES + 1):
        try:
            table.commit([file], {LANE: position})
        except CommitFailedError:
            continue
        return tries
    raise AssertionError(f"position {position} does not land")


def test_a_thousand_commits_that_landed_and_raised_are_each_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = DeltaTable.create_write_transaction

    def land_and_raise(*arguments: object, **named: object) -> None:
        write(*arguments, **named)  # type: ignore[arg-type]
        raise OSError("the answer was lost")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", land_and_raise)
    monkeypatch.setattr(log_table, "CHECKPOINT_EVERY", 10)
    for number in range(TABLES):
        data_dir = tmp_path / str(number)
        table = opened(data_dir)
        for position in range(1, DOUBTS_PER_TABLE + 1):
            has_rows = position % ROWS_EVERY == 0
            files = [write_segment(data_dir, [position])] if has_rows else []
            assert table.commit(files, {LANE: position}) is True
            table.checkpoint_if_due()
        assert positions(data_dir) == list(range(ROWS_EVERY, DOUBTS_PER_TABLE + 1, ROWS_EVERY))
        delta = DeltaTable(data_dir / "events")
        # The creation, and one version for each: none was made twice.
        assert delta.version() == delta.transaction_version(LANE) == DOUBTS_PER_TABLE


def test_a_checkpoint_that_can_not_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_table, "CHECKPOINT_EVERY", 3)
    table = opened(tmp_path)
    for position in range(1, 10):
        if position == 2:
            # Where the checkpoint of that version would go is a folder with something in it.
            blocked = tmp_path / "events" / "_delta_log" / f"{position:020}.checkpoint.parquet"
            (blocked / "in the way").mkdir(parents=True)
        commit_until_it_lands(table, tmp_path, position)
        table.checkpoint_if_due()
    assert positions(tmp_path) == list(range(1, 10))


def compact(data_dir: Path) -> None:
    DeltaTable(data_dir / "events").optimize.compact()


def delete(data_dir: Path) -> None:
    DeltaTable(data_dir / "events").delete("log_position = 3")


def restore(data_dir: Path) -> None:
    DeltaTable(data_dir / "events").restore(2)


def change_property(data_dir: Path) -> None:
    DeltaTable(data_dir / "events").alter.set_table_properties({"delta.appendOnly": "false"})


ALL = set(range(1, 9))
# What is in the table in the end, and whether commits are held. What another program takes away is
# gone because somebody wanted it so; what is committed afterwards is there.
ACTIONS: dict[str, tuple[Callable[[Path], None], set[int]]] = {
    "compact": (compact, ALL),
    "delete": (delete, ALL - {3}),
    "restore": (restore, ALL - {3, 4}),
    "change of a property": (change_property, ALL),
}


@pytest.mark.parametrize(("action", "left"), ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize("during", [False, True], ids=["between", "during"])
def test_another_program_changes_the_table_and_commits_go_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[Path], None],
    left: set[int],
    during: bool,
) -> None:
    table = opened(tmp_path)
    for position in range(1, 5):
        commit_until_it_lands(table, tmp_path, position)
    done: list[str] = []
    if during:
        # Between our check and our commit, as late as it can be.
        def act_once(point: str) -> None:
            if point == "commit_begun" and not done:
                done.append(point)
                action(tmp_path)

        monkeypatch.setattr(log_table, "crash_point", act_once)
    else:
        action(tmp_path)
    for position in range(5, 9):
        commit_until_it_lands(table, tmp_path, position)
    assert bool(done) == during
    assert positions(tmp_path) == sorted(left)
    again = opened(tmp_path)
    assert again.passed(LANE) == 8


@pytest.mark.parametrize("during", [False, True], ids=["between", "during"])
def test_a_column_that_another_program_adds_does_no_harm(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    during: bool,
) -> None:
    table = opened(tmp_path)
    commit_until_it_lands(table, tmp_path, 1)
    done: list[str] = []

    def act_once(point: str) -> None:
        if point == "commit_begun" and not done:
            done.append(point)
            add_column(tmp_path)

    if during:
        monkeypatch.setattr(log_table, "crash_point", act_once)
    else:
        add_column(tmp_path)
    commit_until_it_lands(table, tmp_path, 2)
    commit_until_it_lands(table, tmp_path, 3)
    assert positions(tmp_path) == [1, 2, 3]


def add_column(data_dir: Path) -> None:
    from deltalake.schema import Field, PrimitiveType  # noqa: PLC0415 - this helper alone

    DeltaTable(data_dir / "events").alter.add_columns(Field("note", PrimitiveType("string")))


def vacuum(data_dir: Path) -> None:
    """Remove every file that the table does not name, however new, as nobody should."""
    DeltaTable(data_dir / "events").vacuum(
        retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True
    )


def test_a_vacuum_while_a_commit_is_stalled_costs_another_build(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with stepped_committer(data_dir) as (engine, committer):
        core = engine.core
        for _ in range(3):
            engine.submit(batch(EVENT, EVENT))
        core.flush()
        # The cut is built and waits: its files have no name in the table.
        assert any(core.next_cut(250) is not None for _ in range(MAX_STEPS))
        vacuum(data_dir)
        with pytest.raises(CutFilesLostError):
            committer._step()
        for _ in range(MAX_STEPS):
            core.flush()
            committer._step()
            if core.backlog[0] == 0:
                break
        assert core.backlog[0] == 0
        assert committer.held is None
    assert run_query(data_dir, "SELECT count(*) FROM events").rows == [(6,)]


def test_a_vacuum_between_check_and_commit_is_noticed_before_the_log_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = opened(tmp_path)
    commit_until_it_lands(table, tmp_path, 1)
    file = write_segment(tmp_path, [2])

    def vacuum_late(point: str) -> None:
        if point == "commit_begun":
            vacuum(tmp_path)

    monkeypatch.setattr(log_table, "crash_point", vacuum_late)
    with pytest.raises(HoldCommitsError) as caught:
        table.commit([file], {LANE: 2})
    assert caught.value.code == "committed_file_lost"
