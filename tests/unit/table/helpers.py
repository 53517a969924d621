"""Cuts with real Parquet files, a core that hands them out, and small tables to commit them to."""

import datetime
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction

from penstock.table import log_table
from penstock.table.log_files import LogFiles
from penstock.table.log_table import LogTable
from penstock.table.schema import TableSchema

LANE = "0" * 31 + "a"
OTHER_LANE = "0" * 31 + "b"
DAY = "2026-01-02"

_FIELDS = {
    "events": {
        "project": "string",
        "date": "date",
        "uuid": "string",
        "timestamp": "timestamp",
        "lane": "string",
        "log_position": "long",
    },
    "rejected": {
        "date": "date",
        "reason": "string",
        "lane": "string",
        "log_position": "long",
    },
    "recordings": {
        "project": "string",
        "date": "date",
        "session_id": "string",
        "lane": "string",
        "log_position": "long",
    },
}


def schema_of(name: str) -> TableSchema:
    fields = [
        {"name": column, "type": kind, "nullable": True, "metadata": {}}
        for column, kind in _FIELDS[name].items()
    ]
    return TableSchema(name, json.dumps({"type": "struct", "fields": fields}))


@dataclass
class FakeFile:
    path: str
    size_bytes: int
    rows: int
    partition_values: dict[str, str]
    stats_json: str
    first_position: int
    last_position: int


@dataclass
class FakeCut:
    position: int
    lanes: list[tuple[str, int]]
    files: Mapping[str, Sequence[FakeFile]]
    releases: bool = False


_suffixes = itertools.count(1)


def arrow_rows(table: str, lane: str, positions: Sequence[int]) -> pa.Table:
    count = len(positions)
    columns: dict[str, Any] = {
        "lane": pa.array([lane] * count),
        "log_position": pa.array(list(positions), pa.int64()),
    }
    if table == "events":
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
        columns["uuid"] = pa.array([f"id-{position}" for position in positions])
        columns["timestamp"] = pa.array([moment] * count, pa.timestamp("us", tz="UTC"))
    elif table == "rejected":
        columns["reason"] = pa.array(["missing_distinct_id"] * count)
    else:
        columns["session_id"] = pa.array([f"session-{position}" for position in positions])
    return pa.table(columns)


def write_segment(
    data_dir: Path,
    positions: Sequence[int],
    *,
    table: str = "events",
    project: str = "web",
    date: str = DAY,
    lane: str = LANE,
) -> FakeFile:
    values = {"date": date} if table == "rejected" else {"project": project, "date": date}
    encoded = {
        key: "%2E%2E" if value == ".." else quote(value, safe="").replace("~", "%7E")
        for key, value in values.items()
    }
    folder = "/".join(f"{key}={value}" for key, value in encoded.items())
    relative = f"{folder}/{lane}-{positions[0]:020}-{next(_suffixes):016x}.parquet"
    path = data_dir / table / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow_rows(table, lane, positions), path)
    stats = {"numRecords": len(positions), "minValues": {}, "maxValues": {}, "nullCount": {}}
    return FakeFile(
        path=relative,
        size_bytes=path.stat().st_size,
        rows=len(positions),
        partition_values=values,
        stats_json=json.dumps(stats),
        first_position=min(positions),
        last_position=max(positions),
    )


def cut_of(
    data_dir: Path,
    positions: Sequence[int],
    *,
    releases: bool = False,
    rejected: Sequence[int] = (),
    recordings: Sequence[int] = (),
    project: str = "web",
) -> FakeCut:
    files = {
        "events": [write_segment(data_dir, positions, project=project)] if positions else [],
        "rejected": [write_segment(data_dir, rejected, table="rejected")] if rejected else [],
        "recordings": [write_segment(data_dir, recordings, table="recordings")]
        if recordings
        else [],
    }
    last = max([*positions, *rejected, *recordings])
    return FakeCut(last, [(LANE, last)], files, releases=releases)


def make_data_directory(data_dir: Path) -> Path:
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "format.json").write_text('{"format_version": 1, "created_at_unix_us": 1}')
    return data_dir


def opened(data_dir: Path, name: str = "events", **arguments: Any) -> LogTable:
    table = LogTable(data_dir, schema_of(name))
    table.open(arguments.get("note"), arguments.get("lanes", [LANE]))
    return table


@dataclass
class FakeCore:
    note: bytes | None = None
    log_lanes: list[tuple[str, int, int]] = field(default_factory=lambda: [(LANE, 1, 1000)])
    holds: list[str | None] = field(default_factory=list)
    cuts: list[FakeCut] = field(default_factory=list)
    committed: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    discarded: list[int] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def lanes(self):
        return self.log_lanes

    def table_note(self):
        return self.note

    def hold_commits(self, reason):
        self.holds.append(reason)

    def next_cut(self, _timeout_ms):
        return self.cuts[0] if self.cuts else None

    def cut_committed(self, position, committed, note):
        self.trace.append("cut_committed")
        self.committed.append((position, dict(committed)))
        self.note = note
        if self.cuts:
            self.cuts.pop(0)

    def discard_cut(self, position):
        self.discarded.append(position)
        self.cuts = [cut for cut in self.cuts if cut.position != position]


NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def positions(data_dir: Path) -> list[int]:
    files = DeltaTable(data_dir / "events").file_uris()
    query = "SELECT log_position FROM read_parquet(?) ORDER BY 1"
    return [row[0] for row in duckdb.execute(query, [files]).fetchall()] if files else []


def commit_by_another(data_dir: Path, lane: str, position: int) -> None:
    table = DeltaTable(data_dir / "events")
    table.create_write_transaction(
        [],
        mode="append",
        schema=table.schema(),
        partition_by=["project", "date"],
        commit_properties=CommitProperties(app_transactions=[Transaction(lane, position)]),
        post_commithook_properties=NO_HOOKS,
    )


def tear(path: Path, how: str) -> None:
    data = path.read_bytes()
    torn = {"empty": b"", "short": data[: len(data) // 2], "zeros": bytes(len(data))}
    path.write_bytes(torn[how])


def with_checkpoint(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> LogFiles:
    monkeypatch.setattr(log_table, "CHECKPOINT_EVERY", 3)
    table = opened(data_dir)
    made = []
    for position in (1, 2, 3):
        table.commit([write_segment(data_dir, [position])], {LANE: position})
        made.append(table.checkpoint_if_due())
    files = LogFiles(data_dir / "events")
    # Version 0 made the table and was never behind a checkpoint.
    assert files.newest_checkpoint() == 2
    assert made == [False, True, False]
    return files
