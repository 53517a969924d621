"""Queries beside a server under load: each answer has each acknowledged row, and has it once."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import StartServer
from durability.load import Clients
from penstock.table.query import run_query
from support.server import RunningServer

pytestmark = pytest.mark.service

# 1,000 queries, on fresh directories every so often: with a commit every 50 ms a table soon has so
# many files that queries become few and far between.
ROUNDS = 50
QUERIES_PER_ROUND = 20
COMMANDS = 10

# Small files and a quick flush: rolls, commits and releases all run while a query reads.
SETTINGS = {"flush_interval_seconds": 0.05, "wal_file_bytes": 64 * 1024, "disk_reserve_bytes": 0}

# Each batch has a row in both tables, which are committed one after the other.
SQL = """
    SELECT 'events' AS kind, uuid AS id FROM events
    UNION ALL SELECT 'rejected', lane || ' ' || log_position || ' ' || batch_index FROM rejected
"""


def loaded(server: RunningServer, seed: int) -> Clients:
    # Enough for several records in each commit and a roll every half second; more would take the
    # processor from the queries, of which there are to be many.
    return Clients(
        server,
        over_http=1,
        over_grpc=1,
        seed=seed,
        max_padding_bytes=1_000,
        refused=True,
        days=1,
        pause_seconds=0.02,
    )


def check(
    rows: Sequence[tuple[object, ...]], acknowledged: set[str], batches: int, context: str
) -> None:
    """Compare an answer with what was acknowledged before it was asked for."""
    events = [row[1] for row in rows if row[0] == "events"]
    rejected = [row[1] for row in rows if row[0] == "rejected"]
    missing = acknowledged - set(events)
    assert not missing, f"{context}: {len(missing)} events missing"
    assert len(events) == len(set(events)), f"{context}: events doubled"
    assert len(rejected) >= batches, f"{context}: rejected rows missing"
    assert len(rejected) == len(set(rejected)), f"{context}: rejected rows doubled"


# 2.5 minutes alone on two processors. Four of it side by side took 8, and six would take 14.
@pytest.mark.timeout(1800)
def test_a_thousand_queries_under_load_have_each_row_once(
    start: StartServer, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    released = 0
    for number in range(ROUNDS):
        server = start(tmp_path / f"data-{number}", **SETTINGS)
        with loaded(server, seed + number) as clients:
            clients.wait_for_batches(1)
            for query in range(QUERIES_PER_ROUND):
                batches, acknowledged = clients.batches(), clients.acknowledged()
                result = run_query(server.data_dir, SQL)
                context = f"seed {seed}, round {number}, query {query}"
                assert not result.warnings, f"{context}: {result.warnings}"
                check(result.rows, acknowledged, batches, context)
        assert not clients.problems, clients.problems[:3]
        # Otherwise the rows were in the log alone.
        assert server.metric('penstock_table_commits_total{table="events"}') > 1
        server.kill()
        # Files are numbered from 1 and go from the front.
        released += min(int(path.stem) for path in (server.data_dir / "wal").glob("*.wal")) - 1
    assert released > ROUNDS, "queries hardly met a release"


@pytest.mark.timeout(120)
def test_ten_queries_by_the_command_under_load_have_each_row_once(start: StartServer) -> None:
    seed = random.randrange(1 << 32)
    server = start(**SETTINGS)
    with loaded(server, seed) as clients:
        clients.wait_for_batches(1)
        for query in range(COMMANDS):
            batches, acknowledged = clients.batches(), clients.acknowledged()
            rows = [(row["kind"], row["id"]) for row in server.query(SQL)]
            check(rows, acknowledged, batches, f"seed {seed}, query {query}")
    assert not clients.problems, clients.problems[:3]
    assert server.stop() == 0
    # And with the server stopped.
    rows = [(row["kind"], row["id"]) for row in server.query(SQL)]
    check(rows, clients.acknowledged(), clients.batches(), f"seed {seed}, stopped")
