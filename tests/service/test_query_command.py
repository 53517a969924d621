"""`penstock query` as a command: exit codes, and what it leaves behind."""

import json

import pytest

from support.command import run_penstock

pytestmark = pytest.mark.service

EVENT = {"api_key": "phc_query", "event": "asked", "distinct_id": "ada"}


def query(data_dir, sql="SELECT count(*) AS n FROM events", **environment):
    """Run the command; its exit code, output and errors."""
    command = ["query", sql, "--data-dir", data_dir, "--format", "json"]
    return run_penstock(*command, environment=environment)


def test_a_data_directory_of_a_newer_format_is_exit_3(start):
    server = start()
    assert server.stop() == 0
    path = server.data_dir / "format.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    ended = query(server.data_dir)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "format 99" in ended.stderr


def test_a_folder_that_is_no_data_directory_is_exit_3(tmp_path):
    ended = query(tmp_path)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "no data directory" in ended.stderr


@pytest.mark.parametrize("sql", ["SELECT count(*) AS n FROM events", "SELEC"])
def test_nothing_is_left_in_the_temporary_folder(start, tmp_path, sql):
    server = start(flush_interval_seconds=3600)
    assert server.post_json("/e", EVENT).status == 200
    folder = tmp_path / "temporary"
    folder.mkdir()
    ended = query(server.data_dir, sql, TMPDIR=str(folder))
    assert ended.returncode == (1 if sql == "SELEC" else 0), ended.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("tail_memory", ["1MiB", "64MiB"])
def test_a_tail_over_its_memory_is_answered_all_the_same(start, tail_memory):
    server = start(flush_interval_seconds=3600)
    padding = "x" * 200_000
    for number in range(20):
        event = {**EVENT, "event": f"asked {number}", "properties": {"padding": padding}}
        assert server.post_json("/e", event).status == 200
    sql = (
        "SELECT count(DISTINCT event) AS n, sum(length(properties)) > 4000000 AS whole FROM events"
    )
    ended = query(server.data_dir, sql, PENSTOCK_QUERY_TAIL_MEMORY_BYTES=tail_memory)
    assert json.loads(ended.stdout) == [{"n": 20, "whole": True}], ended.stderr


def test_a_project_that_is_called_what_hive_calls_null_is_found(start):
    name = "__HIVE_DEFAULT_PARTITION__"
    server = start(flush_interval_seconds=0.1)
    assert server.post_json("/e", EVENT | {"api_key": name}).status == 200
    assert server.stop() == 0
    sql = "SELECT project, event FROM events"
    assert json.loads(query(server.data_dir, sql).stdout) == [{"project": name, "event": "asked"}]
