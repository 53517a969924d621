"""Events at the edges of calendars and names: every engine still opens the table, with every row.

A partition beyond year 9999 would make a table unopenable for good, and an odd project's name is a
folder on disk. And one record that can't be stored must not stop the others.
"""

import datetime
import json
import random
import string
import subprocess
from pathlib import Path

import duckdb
import polars
import pytest
from deltalake import DeltaTable

from conftest import StartServer
from support.command import run_penstock
from support.server import RunningServer

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

TIMES = [
    "-0001-01-01T00:00:00Z",
    "-000001-12-31T23:59:59.999999Z",
    "0000-01-01T00:00:00Z",
    "0000-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00",
    "10000-01-01T00:00:00Z",
    "+010000-01-01T00:00:00Z",
    "292277-01-09T04:00:54.775807Z",
    "+292277-01-09T04:00:54.775807Z",
    9_224_318_016_000_000_000,
    -62_167_219_200_001,
    1e308,
]
# Tokens are projects of their own here; they are ASCII, of up to 64 characters.
ODD_TOKENS = [
    "..",
    ".",
    "/",
    "%2F",
    "../../events",
    "project=x",
    "\\",
    "~",
    "a b",
    "*?[x]",
    "null",
    "None",
    "'\"`$(id)",
    "#;&|<>",
    "_delta_log",
    "\x01\x02\x7f",
    "%" * 64,
    "=" * 64,
    "/" * 64,
    "." * 64,
]
HIVE_TYPES = "hive_partitioning = true, hive_types = {project: VARCHAR, date: DATE}"


def odd_tokens() -> list[str]:
    """The list, and some of 64 characters that nobody thought of."""
    chance = random.Random(20_260_101)
    alphabet = string.printable.strip()
    drawn = ["".join(chance.choice(alphabet) for _ in range(64)) for _ in range(12)]
    return [*ODD_TOKENS, *(token for token in drawn if token.strip() == token)]


def read_all(data_dir: Path, columns: list[str]) -> dict[str, list[tuple[object, ...]]]:
    """Read columns with each engine, none of it ours."""
    table = DeltaTable(data_dir / "events")
    rows = table.to_pyarrow_table(columns=columns).to_pylist()
    selected = ", ".join(columns)
    return {
        "deltalake": sorted(tuple(row[name] for name in columns) for row in rows),
        "polars": sorted(
            polars.scan_delta(str(data_dir / "events")).select(columns).collect().rows()
        ),
        "duckdb": sorted(
            duckdb.execute(
                f"SELECT {selected} FROM read_parquet(?, {HIVE_TYPES}, union_by_name = true)",
                [table.file_uris()],
            ).fetchall()
        ),
    }


def test_times_outside_of_calendars_are_stored_and_the_table_opens(start: StartServer) -> None:
    server = start(flush_interval_seconds=3600)
    for number, time in enumerate(TIMES):
        event = {"event": f"e{number:02}", "distinct_id": "ada", "timestamp": time}
        answer = server.post_json("/batch", {"api_key": "phc_times", "batch": [event]})
        assert answer.status == 200, (time, answer)
    before = server.query("SELECT event, client_timestamp FROM events ORDER BY event")
    assert server.stop() == 0
    assert "event=drained" in server.log()
    names = [f"e{number:02}" for number in range(len(TIMES))]
    assert [row["event"] for row in before] == names
    for engine, rows in read_all(server.data_dir, ["event", "date"]).items():
        assert [row[0] for row in rows] == names, engine
        for _, day in rows:
            assert isinstance(day, datetime.date), engine
    # And it can be committed to, and opened by us, afterwards.
    again = start(flush_interval_seconds=3600)
    event = {"event": "afterwards", "distinct_id": "ada"}
    assert again.post_json("/batch", {"api_key": "phc_times", "batch": [event]}).status == 200
    assert again.stop() == 0
    assert "event=drained" in again.log()


def test_odd_tokens_are_projects_that_every_engine_reads(start: StartServer) -> None:
    server = start(flush_interval_seconds=3600)
    tokens = odd_tokens()
    for number, token in enumerate(tokens):
        event = {"event": f"e{number:02}", "distinct_id": "ada"}
        answer = server.post_json("/batch", {"api_key": token, "batch": [event]})
        assert answer.status == 200, (token, answer)
    expected = sorted((f"e{number:02}", token) for number, token in enumerate(tokens))
    found = server.query("SELECT event, project FROM events ORDER BY event")
    assert [(row["event"], row["project"]) for row in found] == expected
    assert server.stop() == 0
    assert "event=drained" in server.log()
    for engine, rows in read_all(server.data_dir, ["event", "project"]).items():
        assert rows == expected, engine
    # Nothing went anywhere else.
    below = {path.name for path in server.data_dir.iterdir()}
    assert below <= {"events", "rejected", "wal", "dedup", "format.json", "lock", "reserve"}
    assert not [path for path in server.data_dir.parent.iterdir() if path.name.startswith("e0")]


def quarantine(server: RunningServer, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_penstock("wal", "quarantine", *arguments, "--data-dir", server.data_dir)


def test_a_poison_record_is_set_aside_and_the_others_flow(start: StartServer) -> None:
    server = start(flush_interval_seconds=0.1, test_poison_project="phc_poison")

    def send(token: str, name: str, event_id: str) -> None:
        event = {"event": name, "distinct_id": "ada", "uuid": event_id}
        body = {"api_key": token, "batch": [event, {"event": ""}]}
        assert server.post_json("/batch", body).status == 200

    poison_id = "0190a1b2-0000-7000-8000-00000000000f"
    for number in range(12):
        event_id = f"0190a1b2-0000-7000-8000-{number:012}"
        send("phc_poison" if number == 5 else "phc_good", f"e{number:02}", event_id)
    send("phc_poison", "poison", poison_id)
    send("phc_good", "last", "0190a1b2-0000-7000-8000-00000000000e")
    assert server.stop() == 0
    assert "event=drained" in server.log()
    # All of the log: what panics may say a lot.
    assert server.log_path.read_text().count("event=record_quarantined") == 2
    good = [f"e{number:02}" for number in range(12) if number != 5]
    rows = read_all(server.data_dir, ["event"])["deltalake"]
    assert [name for (name,) in rows] == [*good, "last"]
    listed = json.loads(quarantine(server, "list", "--json").stdout)
    assert [row["position"] for row in listed] == [6, 13]

    # Brought back into its own directory, whose window has their ids, each once.
    done = quarantine(server, "retry", "--into", server.data_dir)
    assert done.returncode == 0, done.stderr
    assert "2 records brought back, 0 kept" in done.stdout
    again = quarantine(server, "retry", "--into", server.data_dir)
    assert "0 records brought back, 0 kept" in again.stdout
    rows = read_all(server.data_dir, ["event"])["deltalake"]
    assert [name for (name,) in rows] == sorted([*good, "e05", "poison", "last"])

    # Their ids are in the window as anyone's: sent again they are duplicates.
    server = start(flush_interval_seconds=0.1)
    send("phc_poison", "poison", poison_id)
    found = server.query("SELECT event FROM events WHERE event = 'poison'")
    assert found == [{"event": "poison"}]


def test_an_answer_at_table_is_not_given_for_a_record_in_quarantine(start: StartServer) -> None:
    # ACK-1: the commit that covers its position does not hold its rows.
    server = start(flush_interval_seconds=0.1, ack="table", test_poison_project="phc_poison")
    event = {"event": "e", "distinct_id": "ada"}
    answer = server.post_json("/batch", {"api_key": "phc_poison", "batch": [event]})
    assert answer.status == 503
    assert b"on disk, not yet in the table" in answer.body
    assert server.post_json("/batch", {"api_key": "phc_good", "batch": [event]}).status == 200
