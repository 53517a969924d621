"""Queries over committed rows and rows of the log, with logs of the test's own making."""

import datetime
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.errors import DataDirectoryError
from penstock.table import log_table
from penstock.table import note as notes
from penstock.table.query import MAX_TRIES, QueryResult, run_query
from unit.table.helpers import (
    DAY,
    LANE,
    OTHER_LANE,
    arrow_rows,
    make_data_directory,
    opened,
    schema_of,
    write_segment,
)


@dataclass
class FakeTail:
    files: Mapping[str, Sequence[str]]
    spans: list[tuple[str, int, int]]
    damage: list[str] = field(default_factory=list)


def tail_file(folder: str, positions: Sequence[int], lane: str = LANE) -> str:
    rows = arrow_rows("events", lane, positions)
    day = datetime.date.fromisoformat(DAY)
    rows = rows.append_column("project", pa.array(["web"] * len(positions)))
    rows = rows.append_column("date", pa.array([day] * len(positions), pa.date32()))
    path = Path(folder) / f"tail-{lane}-{positions[0]}.parquet"
    pq.write_table(rows, path)
    return str(path)


def reads(*spans: tuple[str, int, int], before: Callable[[], object] = lambda: None) -> Any:
    """Read the log: `before` is what happens on disk between this read and the tables' opening."""
    calls = []

    def read_tail(_data: str, output: str, _above: Mapping[str, int], _memory: int) -> FakeTail:
        calls.append(output)
        files = [tail_file(output, range(first, last + 1), lane) for lane, first, last in spans]
        before()
        return FakeTail({"events": files, "rejected": []}, list(spans))

    read_tail.calls = calls  # type: ignore[attr-defined]
    return read_tail


def ask(data_dir: Path, sql: str, read_tail, **named) -> QueryResult:
    if data_dir.is_dir():
        make_data_directory(data_dir)
    return run_query(data_dir, sql, read_tail=read_tail, schema_of=schema_of, **named)


POSITIONS = "SELECT log_position FROM events ORDER BY 1"


def found(result: QueryResult) -> list[object]:
    return [row[0] for row in result.rows]


def test_rows_of_table_and_log_are_each_counted_once(tmp_path: Path) -> None:
    opened(tmp_path).commit([write_segment(tmp_path, [1, 2, 3])], {LANE: 3})
    result = ask(tmp_path, POSITIONS, reads((LANE, 2, 5)))
    assert found(result) == [1, 2, 3, 4, 5]
    assert result.warnings == []


@pytest.mark.parametrize("tail_memory_bytes", [0, 1 << 20])
def test_answer_is_the_same_from_memory_and_from_disk(
    tmp_path: Path, tail_memory_bytes: int
) -> None:
    opened(tmp_path).commit([write_segment(tmp_path, [1])], {LANE: 1})
    tail = reads((LANE, 1, 4), (OTHER_LANE, 5, 6))
    result = ask(tmp_path, POSITIONS, tail, tail_memory_bytes=tail_memory_bytes)
    assert found(result) == [1, 2, 3, 4, 5, 6]


def test_rows_committed_while_the_log_was_read_are_counted_once(tmp_path: Path) -> None:
    table = opened(tmp_path)
    files = [write_segment(tmp_path, [1, 2])]
    tail = reads((LANE, 1, 4), before=lambda: table.commit(files, {LANE: 2}))
    assert found(ask(tmp_path, POSITIONS, tail)) == [1, 2, 3, 4]


def test_without_table_or_log_the_views_are_empty_and_typed(tmp_path: Path) -> None:
    result = ask(tmp_path, "SELECT typeof(any_value(date)), count(*) FROM events", reads())
    assert result.rows[0][1] == 0
    columns = ask(tmp_path, "SELECT * FROM events", reads()).columns
    assert columns == ["project", "date", "uuid", "timestamp", "lane", "log_position"]
    assert ask(tmp_path, "SELECT * FROM rejected", reads()).columns[0] == "date"


def test_types_and_order_of_columns_are_those_of_the_schema(tmp_path: Path) -> None:
    # A project of digits alone would come back as a number.
    file = write_segment(tmp_path, [1], project="12")
    opened(tmp_path).commit([file], {LANE: 1})
    result = ask(tmp_path, "SELECT * FROM events", reads())
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    day = datetime.date.fromisoformat(DAY)
    assert result.rows == [("12", day, "id-1", moment, LANE, 1)]


def test_missing_piece_that_does_not_come_back_is_damage(tmp_path: Path) -> None:
    opened(tmp_path).commit([write_segment(tmp_path, [1])], {LANE: 1})
    tail = reads((LANE, 4, 5))
    result = ask(tmp_path, POSITIONS, tail)
    assert found(result) == [1, 4, 5]
    assert [
        "positions 2 to 3" in warning for warning in result.warnings if "events" in warning
    ] == [True]
    assert len(tail.calls) == 2


def test_missing_piece_that_was_committed_meanwhile_is_found_by_a_new_try(tmp_path: Path) -> None:
    table = opened(tmp_path)
    opened(tmp_path, "rejected").commit([], {LANE: 3})
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    late = write_segment(tmp_path, [2, 3])
    tries = []

    def read_tail(data_directory: str, output: str, above: Mapping[str, int], memory: int) -> Any:
        tries.append(output)
        if len(tries) == 2:
            table.commit([late], {LANE: 3})
        return reads((LANE, 4, 5))(data_directory, output, above, memory)

    result = ask(tmp_path, POSITIONS, read_tail)
    assert found(result) == [1, 2, 3, 4, 5]
    assert result.warnings == []
    assert len(tries) == 2


def test_a_log_that_always_runs_away_is_answered_in_the_end(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([], {LANE: 1})
    at = [1]

    def move() -> None:
        at[0] += 1
        table.commit([], {LANE: at[0]})

    tail = reads((LANE, 100, 100), before=move)
    assert len(ask(tmp_path, POSITIONS, tail).warnings) == 1
    assert len(tail.calls) == MAX_TRIES


def test_file_vacuumed_before_it_is_read_leads_to_a_new_try(
    tmp_path: Path,
) -> None:
    table = opened(tmp_path)
    file = write_segment(tmp_path, [1])
    table.commit([file], {LANE: 1})
    path = tmp_path / "events" / file.path
    away = path.with_suffix(".away")
    path.rename(away)
    tail = reads()

    def read_tail(*arguments) -> Any:
        if tail.calls:
            away.rename(path)
        return tail(*arguments)

    assert found(ask(tmp_path, POSITIONS, read_tail)) == [1]


def test_damage_of_the_log_is_a_warning(tmp_path: Path) -> None:
    tail = lambda *_: FakeTail({}, [], ["bytes 5 to 9 of file 3 are damaged"])  # noqa: E731
    assert ask(tmp_path, POSITIONS, tail).warnings == ["bytes 5 to 9 of file 3 are damaged"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/penstock-must-not-be-here.csv'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_sql_reaches_nothing_but_the_data_directory(tmp_path: Path, sql: str) -> None:
    with pytest.raises(duckdb.Error):
        ask(tmp_path, sql, reads())


def test_wrong_sql_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(duckdb.Error):
        ask(tmp_path, "SELEC 1", reads())


def test_missing_data_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError):
        ask(tmp_path / "none", "SELECT 1", reads())


def test_quotes_in_paths_are_no_sql(tmp_path: Path) -> None:
    data_dir = tmp_path / "it's"
    data_dir.mkdir()
    opened(data_dir).commit([write_segment(data_dir, [1])], {LANE: 1})
    assert found(ask(data_dir, POSITIONS, reads((LANE, 1, 2)))) == [1, 2]


def write_note(data_dir: Path, complete: dict[str, int], **tables: log_table.LogTable) -> None:
    noted = {
        name: notes.TableNote(table.table_id, table.version, {LANE: table.passed(LANE) or 0})
        for name, table in tables.items()
    }
    path = notes.path(data_dir)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(notes.encode(notes.Note(noted, complete=complete)))


@dataclass
class AskedFor:
    """Reads the log as asked, and keeps what it was asked for."""

    rows: Sequence[int]
    above: list[dict[str, int]] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)

    def __call__(self, _data: str, output: str, above: Mapping[str, int], memory: int) -> FakeTail:
        self.above.append(dict(above))
        self.memory_bytes.append(memory)
        rows = [row for row in self.rows if row > above.get(LANE, 0)]
        files = [tail_file(output, rows)] if rows else []
        return FakeTail({"events": files}, [(LANE, min(self.rows), max(self.rows))])


def test_records_that_all_tables_have_are_not_decoded(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1, 2])], {LANE: 2})
    write_note(tmp_path, {LANE: 2}, events=table)
    tail = AskedFor([1, 2, 3])
    assert found(ask(tmp_path, POSITIONS, tail, tail_memory_bytes=12345)) == [1, 2, 3]
    assert tail.above == [{LANE: 2}]
    assert tail.memory_bytes == [12345]


def test_note_that_says_more_than_the_table_has_is_not_believed(tmp_path: Path) -> None:
    # Someone set the table back: what the log still holds is answered all the same.
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    table.commit([write_segment(tmp_path, [2])], {LANE: 2})
    write_note(tmp_path, {LANE: 2}, events=table)
    (tmp_path / "events/_delta_log" / f"{2:020}.json").unlink()
    tail = AskedFor([1, 2, 3])
    assert found(ask(tmp_path, POSITIONS, tail)) == [1, 2, 3]
    assert tail.above == [{LANE: 2}, {}]


def test_table_that_is_gone_is_answered_from_the_log(tmp_path: Path) -> None:
    table = opened(tmp_path)
    table.commit([write_segment(tmp_path, [1])], {LANE: 1})
    write_note(tmp_path, {LANE: 1}, events=table)
    shutil.rmtree(tmp_path / "events")
    assert found(ask(tmp_path, POSITIONS, AskedFor([1, 2]))) == [1, 2]


@pytest.mark.parametrize("note", [b"", b"{", b'{"format": 2}'])
def test_note_that_cannot_be_read_costs_time_only(tmp_path: Path, note: bytes) -> None:
    notes.path(tmp_path).parent.mkdir()
    notes.path(tmp_path).write_bytes(note)
    tail = AskedFor([1, 2])
    assert found(ask(tmp_path, POSITIONS, tail)) == [1, 2]
    assert tail.above == [{}]


def test_data_directory_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    make_data_directory(tmp_path)
    (tmp_path / "format.json").write_text('{"format_version": 2}')
    tail = reads()
    with pytest.raises(DataDirectoryError) as caught:
        run_query(tmp_path, "SELECT 1", read_tail=tail, schema_of=schema_of)
    assert caught.value.code == "data_directory_newer_format"
    assert tail.calls == []


@pytest.mark.parametrize("text", [None, "", "{}", '{"format_version": "x"}'])
def test_folder_that_is_no_data_directory_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "format.json").write_text(text)
    with pytest.raises(DataDirectoryError) as caught:
        run_query(tmp_path, "SELECT 1", read_tail=reads(), schema_of=schema_of)
    assert caught.value.code == "data_directory_unusable"


HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@pytest.mark.parametrize("encoded", [True, False])
def test_project_that_is_called_what_hive_calls_null_is_no_null(
    tmp_path: Path, *, encoded: bool
) -> None:
    table = opened(tmp_path)
    for position, project in enumerate(["web", HIVE_NULL, "it's 100%"], 1):
        file = write_segment(tmp_path, [position], project=project)
        if encoded and project == HIVE_NULL:
            folder = "project=" + "".join(f"%{byte:02X}" for byte in HIVE_NULL.encode())
            target = tmp_path / "events" / file.path.replace(f"project={HIVE_NULL}", folder)
            target.parent.mkdir(parents=True)
            (tmp_path / "events" / file.path).rename(target)
            file.path = str(target.relative_to(tmp_path / "events"))
        table.commit([file], {LANE: position})
    result = ask(tmp_path, "SELECT project, date::text FROM events ORDER BY log_position", reads())
    assert result.rows == [("web", DAY), (HIVE_NULL, DAY), ("it's 100%", DAY)]


def test_files_of_another_writer_are_read_wherever_they_lie(tmp_path: Path) -> None:
    opened(tmp_path)
    file = write_segment(tmp_path, [1])
    flat = tmp_path / "events" / "part-1.parquet"
    (tmp_path / "events" / file.path).rename(flat)
    file.path = flat.name
    table = opened(tmp_path)
    table.commit([file, write_segment(tmp_path, [2])], {LANE: 2})
    result = ask(tmp_path, "SELECT project, date::text FROM events ORDER BY log_position", reads())
    assert result.rows == [("web", DAY)] * 2


class Interrupted(BaseException):
    pass


def test_temporary_folder_is_gone_whatever_ends_the_query(tmp_path: Path) -> None:
    folders = []

    def read_tail(_data: str, output: str, *_arguments) -> FakeTail:
        folders.append(Path(output))
        raise Interrupted

    with pytest.raises(Interrupted):
        ask(tmp_path, "SELECT 1", read_tail)
    assert not folders[0].exists()


# A program started under `nohup` ignores SIGHUP and lets its children ignore it, which the query
# respects; here the signals shall do what they do by default.
KILLED_QUERY = """
import pathlib, signal, sys
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
sys.path.insert(0, {tests!r})
from penstock.table.query import run_query
from unit.table.helpers import schema_of

def read_tail(_data, output, *_):
    pathlib.Path(output, "rows.parquet").write_bytes(b"x")
    print(output, flush=True)
    while True:
        pass

run_query(pathlib.Path({data!r}), "SELECT 1", read_tail=read_tail, schema_of=schema_of)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_temporary_folder_is_gone_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    make_data_directory(tmp_path)
    tests = Path(__file__).parents[2]
    script = KILLED_QUERY.format(tests=str(tests), data=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().decode().strip())
        assert (folder / "rows.parquet").exists()
        process.send_signal(number)
        try:
            code = process.wait(30)
        finally:
            process.kill()
    assert not folder.exists()
    assert code == (-number if number == signal.SIGINT else 128 + number)


def test_signals_are_left_as_they_were(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ask(tmp_path, "SELECT 1", reads())
    assert signal.getsignal(signal.SIGTERM) is before
