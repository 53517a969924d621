"""What must be true of a data directory after whatever happened to its server."""

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from durability.load import Clients
from support.server import RunningServer


def check_stored_once(
    server: RunningServer, clients: Clients, context: str, where: str = "true"
) -> None:
    """Every acknowledged event once, every other at most once, and none that nobody sent.

    Read by `penstock query`: the tables, and the log's tail.
    """
    for table in clients.tables():
        sql = f"SELECT uuid, count(*) AS copies FROM {table} WHERE {where} GROUP BY uuid"
        rows = server.query(sql)
        _compare(table, Counter({row["uuid"]: row["copies"] for row in rows}), clients, context)


def check_tables(data_dir: Path, clients: Clients, context: str) -> None:
    """As `check_stored_once`, of the Delta tables alone; and the same of refused events (TAB-1).

    A refused event has a row for each time it was sent, and each record of the log has its own.
    """
    for table in clients.tables():
        rows = read_table(data_dir / table, "uuid")
        _compare(table, Counter(uuid for (uuid,) in rows), clients, context)
    refused = read_table(data_dir / "rejected", "uuid, lane, log_position, batch_index")
    lost = clients.refused() - {uuid for uuid, *_ in refused}
    assert not lost, f"{context}: {len(lost)} refused events of {len(refused)} lost"
    assert len(set(refused)) == len(refused), f"{context}: refused events are doubled"


def read_table(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    """Read rows of a Delta table with nothing of ours."""
    files = DeltaTable(folder).file_uris()
    query = f"SELECT {columns} FROM read_parquet(?)"
    return duckdb.execute(query, [files]).fetchall() if files else []


def check_no_file_is_left(data_dir: Path, context: str) -> None:
    """No Parquet file of a crash is left: each is named by its table."""
    for table in ("events", "rejected", "recordings"):
        if not (data_dir / table).exists():
            continue
        named = {uri.rsplit("/", 1)[-1] for uri in DeltaTable(data_dir / table).file_uris()}
        on_disk = {path.name for path in (data_dir / table).rglob("*.parquet")}
        unnamed = {name for name in on_disk - named if "checkpoint" not in name}
        assert not unnamed, f"{context}: files of crashes are left in {table}"


# Most files of the log that wait to be written again, where `max_wal_bytes` has room for so many.
MAX_SPARE_FILES = 16


def check_log_was_let_go(data_dir: Path, most_bytes: int) -> None:
    """Check that the log's files take little, and that not too many wait to be written again."""
    files = list((data_dir / "wal").iterdir())
    spares = [path for path in files if path.suffix == ".spare"]
    assert len(spares) <= MAX_SPARE_FILES
    assert sum(path.stat().st_size for path in files if path not in spares) <= most_bytes


def _compare(table: str, stored: Counter[str], clients: Clients, context: str) -> None:
    context = f"{context}, {table}"
    assert not clients.problems, f"{context}: {clients.problems[:3]}"
    acknowledged = clients.acknowledged(table)
    lost = acknowledged - stored.keys()
    doubled = {event_id for event_id, copies in stored.items() if copies > 1}
    strangers = stored.keys() - acknowledged - clients.unanswered(table)
    assert not lost, f"{context}: {len(lost)} of {len(acknowledged)} lost"
    assert not doubled, f"{context}: {len(doubled)} doubled"
    assert not strangers, f"{context}: {len(strangers)} never sent"
