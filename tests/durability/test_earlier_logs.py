"""Logs of every format that was ever released are read for ever, as they were taken (WAL-1).

`tests/vectors/log/` has one folder a format, made once by `tests/vectors/make_log.py`.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY, StartServer
from durability.checks import read_table
from support.command import run_penstock

pytestmark = [pytest.mark.durability, pytest.mark.timeout(120)]

VECTORS = REPOSITORY / "tests" / "vectors" / "log"
FORMATS = sorted(path.name for path in VECTORS.iterdir())


def unpack(name: str, data_dir: Path) -> Path:
    """Lay a log out as its server left it."""
    (data_dir / "wal").mkdir(parents=True)
    (data_dir / "format.json").write_bytes((VECTORS / name / "format.json").read_bytes())
    for packed in (VECTORS / name).glob("*.wal.gz"):
        path = data_dir / "wal" / packed.name.removesuffix(".gz")
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    return VECTORS / name


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def expected_lines(folder: Path, name: str) -> list[Any]:
    wanted = lines(gzip.decompress((folder / f"{name}.ndjson.gz").read_bytes()).decode())
    assert wanted
    return wanted


def command(*arguments: object) -> list[Any]:
    done = run_penstock(*arguments)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return lines(done.stdout)


@pytest.mark.parametrize("name", FORMATS)
def test_a_log_of_every_format_is_read_as_it_was_taken(tmp_path: Path, name: str) -> None:
    data_dir = tmp_path / "data"
    expected = unpack(name, data_dir)
    shown = command("wal", "cat", "--json", "--data-dir", data_dir)
    assert shown == expected_lines(expected, "records")


@pytest.mark.parametrize("name", FORMATS)
def test_a_log_of_every_format_is_brought_into_the_tables(
    start: StartServer, tmp_path: Path, name: str
) -> None:
    data_dir = tmp_path / "data"
    expected = unpack(name, data_dir)
    for table in ("events", "rejected"):
        sql = f"SELECT * FROM {table} ORDER BY log_position, batch_index"
        wanted = expected_lines(expected, table)
        asked = ("query", sql, "--format", "ndjson", "--data-dir", data_dir)
        assert command(*asked) == wanted, "read from the log"
    # Settings of now decide nothing anew: no project is named, and limits are others.
    server = start(data_dir, max_events_per_request=1, disk_reserve_bytes=0)
    assert server.stop() == 0
    assert "event=drained" in server.log()
    for table in ("events", "rejected"):
        wanted = expected_lines(expected, table)
        assert len(read_table(data_dir / table, "lane")) == len(wanted)
        sql = f"SELECT * FROM {table} ORDER BY log_position, batch_index"
        asked = ("query", sql, "--format", "ndjson", "--data-dir", data_dir)
        assert command(*asked) == wanted, "read from the table"
