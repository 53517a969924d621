"""A table that is not as it was left: the service goes on, says so, and a person decides.

Each case is done to the data directory of a real server, which then keeps acknowledging; then
`penstock table adopt` says what could be done, and what was chosen holds for every row (TAB-1).
"""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from conftest import StartServer
from support.command import run_penstock
from support.server import RunningServer

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

TOKEN = "phc_table_commands"
SETTINGS: dict[str, Any] = {"flush_interval_seconds": 0.05, "disk_reserve_bytes": 0}
COMMITS = 6


def table(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command; its exit code, output and errors."""
    return run_penstock("table", *arguments)


def send(server: RunningServer, name: str, *, padding: int = 0) -> None:
    event = {"event": name, "distinct_id": "ada", "properties": {"padding": "x" * padding}}
    assert server.post_json("/batch", {"api_key": TOKEN, "batch": [event]}).status == 200


def send_committed(server: RunningServer, names: list[str], *, padding: int = 0) -> None:
    """Send requests of one event each, and a commit for each."""
    for name in names:
        send(server, name, padding=padding)
        for _ in range(2_000):
            if name in committed_names(server.data_dir):
                break
        else:
            pytest.fail(f"{name} was not committed\n{server.log()}")


def committed_names(data_dir: Path) -> Counter[str]:
    """Count the events of the table alone, with nothing of ours."""
    files = DeltaTable(data_dir / "events").file_uris()
    columns = [pq.read_table(path, columns=["event"])["event"].to_pylist() for path in files]
    return Counter(name for column in columns for name in column)


def names_of(server: RunningServer) -> Counter[str]:
    """Count the events that a query finds, in the table and in the log."""
    return Counter(row["event"] for row in server.query("SELECT event FROM events"))


def entry(data_dir: Path, version: int) -> Path:
    return data_dir / "events" / "_delta_log" / f"{version:020}.json"


def set_back(data_dir: Path) -> None:
    for version in (COMMITS - 1, COMMITS):
        entry(data_dir, version).unlink()


def remove(data_dir: Path) -> None:
    shutil.rmtree(data_dir / "events")


def tear_newest(data_dir: Path) -> None:
    entry(data_dir, COMMITS).write_bytes(b"")


def copy_by_another_engine(data_dir: Path) -> None:
    """Put a copy in its place, as any engine makes one: all rows, another id, no transactions."""
    old = DeltaTable(data_dir / "events")
    rows, columns = old.to_pyarrow_table(), old.schema()
    shutil.rmtree(data_dir / "events")
    DeltaTable.create(data_dir / "events", columns, partition_by=["project", "date"])
    write_deltalake(data_dir / "events", rows, mode="append")
    # Its version is no smaller than that of the table before: only the id tells them apart.
    for _ in range(COMMITS):
        write_deltalake(data_dir / "events", rows.slice(0, 0), mode="append")


def drop_transactions(data_dir: Path) -> None:
    for version in range(1, COMMITS + 1):
        path = entry(data_dir, version)
        lines = path.read_text().splitlines()
        kept = [line for line in lines if not {"txn", "commitInfo"} & json.loads(line).keys()]
        information = {"commitInfo": {"operation": "WRITE", "operationParameters": {}}}
        path.write_text("\n".join([json.dumps(information), *kept]) + "\n")


@dataclass(frozen=True)
class Case:
    """What is done to the table, how it is called, and what to believe then."""

    change: Callable[[Path], None]
    code: str
    believe: str
    doubled_by_transactions: bool = False
    # Of positions 1 to `COMMITS`, from which on they are missing; 0: unknown before it is mended.
    missing_from: int = 1


CASES = {
    "set back": Case(set_back, "table_went_back", "transactions", missing_from=COMMITS - 1),
    "gone": Case(remove, "table_missing", "transactions"),
    "torn": Case(tear_newest, "table_damaged", "transactions", missing_from=0),
    "copied": Case(copy_by_another_engine, "table_replaced", "rows", doubled_by_transactions=True),
    "without transactions": Case(
        drop_transactions, "transaction_missing", "rows", doubled_by_transactions=True
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_changed_table_holds_commits_until_somebody_decides(
    start: StartServer, case: Case
) -> None:
    names = [f"e{number}" for number in range(1, COMMITS + 1)]
    server = start(**SETTINGS)
    data_dir = server.data_dir
    send_committed(server, names)
    assert server.stop() == 0
    assert table("info", "--data-dir", data_dir).returncode == 0
    case.change(data_dir)

    server = start(**SETTINGS)
    send(server, "while held")
    for page in ("/readyz", "/healthz"):
        health = server.get_admin(page)
        assert health.status == 200
        assert f"commits held: {case.code}\n" in health.body.decode()
    metrics = server.get_admin("/metrics").body.decode()
    assert f'penstock_table_held{{table="events",reason="{case.code}"}} 1' in metrics
    assert "penstock_table_commits_held 1" in metrics
    if case.missing_from:
        count = COMMITS - case.missing_from + 1
        assert f'penstock_table_missing_positions{{table="events"}} {count}\n' in metrics
        missing = f"positions {case.missing_from} to {COMMITS} of lane "
        (line,) = (line for line in server.log().splitlines() if "event=commits_held" in line)
        assert f'missing="{missing}' in line
        assert f'still_in_log="{missing}' in line
        assert "penstock table adopt" in line
    # Nothing may be decided beside a running server.
    refused = table("adopt", "--believe", case.believe, "--data-dir", data_dir)
    assert refused.returncode == 3, refused.stderr
    shown = table("info", "--json", "--data-dir", data_dir)
    assert shown.returncode == 1
    told = json.loads(shown.stdout)["tables"]
    assert (told["events"]["held"], told["rejected"]["held"]) == (case.code, None)
    assert server.stop() == 0

    before = {path: path.stat() for path in (data_dir / "wal").iterdir()}
    choices = table("adopt", "--data-dir", data_dir)
    assert choices.returncode == 1, choices.stderr
    assert {path: path.stat() for path in (data_dir / "wal").iterdir()} == before
    assert ("doubled: 6 rows" in choices.stdout) == case.doubled_by_transactions
    done = table("adopt", "--believe", case.believe, "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert f"events: adopted, believing its {case.believe}" in done.stdout
    again = table("adopt", "--data-dir", data_dir)
    assert again.returncode == 0
    assert "nothing to adopt" in again.stdout

    server = start(**SETTINGS)
    send(server, "afterwards")
    everything = Counter([*names, "while held", "afterwards"])
    assert names_of(server) == everything
    assert server.stop() == 0
    assert "event=commits_held" not in server.log()
    assert committed_names(data_dir) == everything
    assert table("info", "--data-dir", data_dir).returncode == 0


def test_what_left_the_log_is_named_as_lost_and_nothing_else_is(start: StartServer) -> None:
    settings = SETTINGS | {"wal_file_bytes": 64 * 1024}
    server = start(**settings)
    data_dir = server.data_dir
    names = [f"e{number}" for number in range(1, COMMITS + 1)]
    send_committed(server, names, padding=60_000)
    assert server.stop() == 0
    first = oldest_in_log(data_dir)
    assert first > 2, "nothing was let go"
    # Back to the state after the first commit.
    for version in range(2, newest_version(data_dir) + 1):
        entry(data_dir, version).unlink()

    server = start(**settings)
    send(server, "while held")
    assert server.stop() == 0
    choices = table("adopt", "--data-dir", data_dir).stdout
    gone = f"no longer in the log: positions 2 to {first - 1} of lane "
    assert gone in choices
    assert f"committed again from the log: positions {first} to {COMMITS} of lane " in choices
    assert f"in the log, and not committed again: positions {first} to {COMMITS} of lane" in choices
    assert "of what does not come back the table has 0 rows" in choices
    done = table("adopt", "--believe", "transactions", "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert gone in done.stdout

    server = start(**settings)
    left = Counter([names[0], *names[first - 1 :], "while held"])
    assert names_of(server) == left
    assert server.stop() == 0
    assert committed_names(data_dir) == left


def test_believing_the_note_brings_nothing_back(start: StartServer) -> None:
    server = start(**SETTINGS)
    data_dir = server.data_dir
    send_committed(server, ["e1", "e2"])
    assert server.stop() == 0
    remove(data_dir)
    server = start(**SETTINGS)
    send(server, "while held")
    assert server.stop() == 0
    done = table("adopt", "events", "--believe", "note", "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert "in the log, and not committed again: positions 1 to 2 of lane " in done.stdout
    server = start(**SETTINGS)
    assert names_of(server) == Counter(["while held"])
    assert server.stop() == 0
    assert committed_names(data_dir) == Counter(["while held"])


@pytest.mark.parametrize("believe", ["transactions", "note"])
def test_a_table_that_is_made_late_is_adopted_though_it_is_gone(
    start: StartServer, believe: str
) -> None:
    server = start(**SETTINGS)
    data_dir = server.data_dir
    properties = {"token": TOKEN, "$session_id": "s1", "$snapshot_data": ["x"]}
    snapshot = {"event": "$snapshot", "distinct_id": "ada", "properties": properties}
    assert server.post_json("/s/", [snapshot]).status == 200
    assert server.stop() == 0
    assert (data_dir / "recordings").is_dir()
    shutil.rmtree(data_dir / "recordings")
    info = table("info", "--data-dir", data_dir)
    assert "commits are held: table_missing" in info.stdout
    done = table("adopt", "--believe", believe, "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert table("info", "--data-dir", data_dir).returncode == 0
    server = start(**SETTINGS)
    count = server.query("SELECT count(*) AS n FROM recordings")[0]["n"]
    assert (count > 0) == (believe == "transactions")
    assert server.stop() == 0
    assert "event=commits_held" not in server.log()
    assert table("info", "--data-dir", data_dir).returncode == 0


def test_a_note_that_can_not_be_read_is_written_anew(start: StartServer) -> None:
    server = start(**SETTINGS)
    data_dir = server.data_dir
    send_committed(server, ["e1", "e2"])
    assert server.stop() == 0
    (data_dir / "wal" / "tables.json").write_bytes(b"{")
    server = start(**SETTINGS)
    send(server, "while held")
    assert b"commits held: note_unreadable" in server.get_admin("/readyz").body
    assert server.stop() == 0
    assert table("adopt", "--data-dir", data_dir).returncode == 1
    done = table("adopt", "--believe", "transactions", "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    server = start(**SETTINGS)
    send(server, "afterwards")
    assert server.stop() == 0
    assert committed_names(data_dir) == Counter(["e1", "e2", "while held", "afterwards"])


def test_what_would_be_refused_again_is_not_adopted(start: StartServer) -> None:
    server = start(**SETTINGS)
    data_dir = server.data_dir
    send_committed(server, ["e1", "e2", "e3"])
    assert server.stop() == 0
    entry(data_dir, 2).write_bytes(b"")
    note = (data_dir / "wal" / "tables.json").read_bytes()
    refused = table("adopt", "--believe", "transactions", "--data-dir", data_dir)
    assert refused.returncode == 1
    assert "entry 2 is damaged; put back a copy that opens" in refused.stderr
    assert (data_dir / "wal" / "tables.json").read_bytes() == note


def test_an_unknown_table_is_exit_2(start: StartServer) -> None:
    server = start(**SETTINGS)
    refused = table("adopt", "event", "--data-dir", server.data_dir)
    assert refused.returncode == 2
    assert "no table 'event'; there are events, rejected, recordings" in refused.stderr


def test_without_a_data_directory_it_is_exit_3(tmp_path: Path) -> None:
    for action in ("info", "adopt"):
        assert table(action, "--data-dir", tmp_path / "none").returncode == 3


def oldest_in_log(data_dir: Path) -> int:
    shown = table("info", "--json", "--data-dir", data_dir)
    first: int = json.loads(shown.stdout)["log"][0]["first"]
    return first


def newest_version(data_dir: Path) -> int:
    return DeltaTable(data_dir / "events").version()
