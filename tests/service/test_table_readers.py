"""The table that a real server makes, read by engines with nothing of ours."""

import datetime
import json
from collections.abc import Callable

import duckdb
import polars
import pytest
from deltalake import DeltaTable

from support.server import start_server

pytestmark = pytest.mark.service

# Polars takes this for null whatever the log of the table says; the others don't.
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
PROJECTS = [
    "plain",
    "12",
    "NULL",
    "null",
    "a/b",
    "a=b",
    "a b",
    "100%",
    "a%20b",
    "..",
    "~",
    "a?b#c&d+e",
    "it's",
    'q"q',
    "C:\\x",
    "日本",
    HIVE_NULL,
]
TIMES = {
    "first": "0001-01-01T00:00:00Z",
    "epoch": "1970-01-01T00:00:00Z",
    "now": "2026-03-04T05:06:07.123456Z",
}
# The protocol takes a time so far ahead for a wrong clock: the time of receipt counts instead.
FUTURE = {"last": "9999-12-31T23:59:59.999999Z"}
HIVE_TYPES = "hive_partitioning = true, hive_types = {project: VARCHAR, date: DATE}"

Row = tuple[str, str, str, int]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with a row for each project and time, by a server that is gone."""
    projects = {name: {"tokens": [f"phc_{index}"]} for index, name in enumerate(PROJECTS)}
    folder = tmp_path_factory.mktemp("readers")
    server = start_server(
        folder / "data", folder, flush_interval_seconds=0.2, projects=json.dumps(projects)
    )
    for index in range(len(PROJECTS)):
        batch = [
            {"event": name, "distinct_id": "ada", "timestamp": time, "properties": {"n": number}}
            for number, (name, time) in enumerate((TIMES | FUTURE).items())
        ]
        # A refused one beside them, so that the other table has rows too.
        body = {"api_key": f"phc_{index}", "batch": [*batch, {"event": "lost"}]}
        assert server.post_json("/batch", body).status == 200
    assert server.stop() == 0, server.log()
    return server.data_dir


def expected(projects: list[str]) -> list[Row]:
    """(project, date, event, microseconds since 1970)."""
    return sorted(
        (project, time[:10], name, microseconds(time))
        for project in projects
        for name, time in TIMES.items()
    )


def microseconds(time: str) -> int:
    moment = datetime.datetime.fromisoformat(time)
    return (moment - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(
        microseconds=1
    )


def by_deltalake(data_dir) -> list[Row]:
    rows = DeltaTable(data_dir / "events").to_pyarrow_table().to_pylist()
    return [
        (row["project"], row["date"].isoformat(), row["event"], microseconds_of(row["timestamp"]))
        for row in rows
    ]


def microseconds_of(moment: datetime.datetime) -> int:
    return (moment - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(
        microseconds=1
    )


def by_polars(data_dir) -> list[Row]:
    frame = polars.scan_delta(str(data_dir / "events")).select(
        "project",
        polars.col("date").cast(polars.String),
        "event",
        polars.col("timestamp").to_physical(),
    )
    return frame.collect().rows()


def by_duckdb(data_dir) -> list[Row]:
    files = DeltaTable(data_dir / "events").file_uris()
    return duckdb.execute(
        "SELECT project, strftime(date, '%Y-%m-%d'), event, epoch_us(timestamp) "
        f"FROM read_parquet(?, {HIVE_TYPES}, union_by_name = true)",
        [files],
    ).fetchall()


def by_delta_scan(data_dir) -> list[Row]:
    connection = duckdb.connect()
    try:
        connection.execute("INSTALL delta")
        connection.execute("LOAD delta")
    except duckdb.Error as error:
        pytest.skip(f"DuckDB's delta extension is not to be had: {str(error).splitlines()[0]}")
    return connection.execute(
        "SELECT project, strftime(date, '%Y-%m-%d'), event, epoch_us(timestamp) FROM delta_scan(?)",
        [str(data_dir / "events")],
    ).fetchall()


@pytest.mark.parametrize("read", [by_deltalake, by_polars, by_duckdb, by_delta_scan])
def test_every_engine_reads_the_same_rows(table, read: Callable[..., list[Row]]):
    projects = (
        PROJECTS if read is not by_polars else [name for name in PROJECTS if name != HIVE_NULL]
    )
    rows = [row for row in read(table) if row[0] in projects]
    assert sorted(row for row in rows if row[2] in TIMES) == expected(projects)
    future = [row for row in rows if row[2] in FUTURE]
    assert sorted(row[0] for row in future) == sorted(projects)
    assert all("2026-" < row[1] < "9999-" for row in future)


def test_no_engine_loses_a_row(table):
    counts = {
        len(DeltaTable(table / "events").to_pyarrow_table()),
        polars.scan_delta(str(table / "events")).select(polars.len()).collect().item(),
        len(by_duckdb(table)),
    }
    assert counts == {len(PROJECTS) * len(TIMES | FUTURE)}


def test_statistics_let_engines_skip_files(table):
    # Polars and deltalake leave out files by them: wrong ones would hide rows.
    start = datetime.datetime(2026, 3, 4, tzinfo=datetime.UTC)
    found = (
        polars.scan_delta(str(table / "events"))
        .filter(polars.col("timestamp") >= start, polars.col("timestamp") < start.replace(day=5))
        .collect()
    )
    assert set(found["event"]) == {"now"}
    assert len(found) == len(PROJECTS)


def test_the_table_of_refused_events_is_read_too(table):
    (rejected, polars_rows) = (
        DeltaTable(table / "rejected").to_pyarrow_table(),
        polars.read_delta(str(table / "rejected")),
    )
    assert len(rejected) == len(polars_rows) == len(PROJECTS)
    assert set(rejected["reason"].to_pylist()) == {"missing_distinct_id"}
    assert sorted(rejected["project"].to_pylist()) == sorted(PROJECTS)
    files = DeltaTable(table / "rejected").file_uris()
    query = (
        "SELECT count(*) FROM read_parquet(?, hive_partitioning = true, hive_types = {date: DATE})"
    )
    assert duckdb.execute(query, [files]).fetchall() == [(len(PROJECTS),)]


def test_columns_are_those_of_the_contract(table):
    delta = DeltaTable(table / "events")
    assert delta.metadata().partition_columns == ["project", "date"]
    assert [field.name for field in delta.schema().fields][:13] == [
        "project",
        "date",
        "uuid",
        "event",
        "distinct_id",
        "timestamp",
        "received_at",
        "sent_at",
        "client_timestamp",
        "properties",
        "person_mode",
        "session_id",
        "window_id",
    ]
    protocol = delta.protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
