"""Commands, exit codes, and the formats of query answers."""

import io
import json
import sys
import types
from datetime import UTC, date, datetime
from typing import Any

import pytest

from penstock import __version__
from penstock.cli import main, refuses_build
from penstock.cli_output import write_rows
from penstock.errors import DataDirectoryError


def run(*arguments):
    try:
        return main(arguments)
    except SystemExit as exit_of_argparse:
        return exit_of_argparse.code


def test_version_names_the_release(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith(f"penstock {__version__} (")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("flush",),
        ("wal",),
        ("wal", "cat", "--from", "0"),
        ("wal", "cat", "--payload", "x"),
        ("wal", "replay"),
        ("wal", "quarantine"),
        ("wal", "quarantine", "retry"),
        ("config",),
        ("serve", "--no-such"),
        ("query",),
        ("serve", "--htt", "x"),
    ],
)
def test_bad_usage_is_exit_2(arguments, capsys):
    assert run(*arguments) == 2
    assert capsys.readouterr().err


def test_bad_configuration_is_exit_2_and_names_the_key(capsys):
    assert run("config", "check", "--max-json-depth", "0") == 2
    assert "max_json_depth (flag --max-json-depth)" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["serve"], ["config", "check"]])
def test_a_ready_file_in_no_folder_is_exit_2_and_names_the_key(
    command, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("PENSTOCK_ALLOW_TESTING", "1")
    path = tmp_path / "missing" / "ready.json"
    assert run(*command, "--ready-file", str(path), "--data-dir", str(tmp_path / "data")) == 2
    assert f"ready_file ({path}): its folder does not exist" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_config_check_says_ok(capsys):
    assert run("config", "check") == 0
    assert capsys.readouterr().out == "ok\n"


def test_config_show_prints_what_is_in_force(capsys, monkeypatch):
    monkeypatch.setenv("PENSTOCK_TRUSTED_PROXIES", "3")
    assert run("config", "show", "--max-request-bytes", "1MiB") == 0
    shown = capsys.readouterr().out
    assert "trusted_proxies = 3\n" in shown
    assert "max_request_bytes = 1MiB\n" in shown


def test_a_build_for_tests_does_not_serve_unless_allowed():
    assert refuses_build(("testing",), allowed=False)
    assert not refuses_build(("testing",), allowed=True)
    assert not refuses_build((), allowed=False)


class FakeQuery(types.ModuleType):
    """Stands in for the query of the table room."""

    def __init__(self):
        super().__init__("penstock.table.query")
        self.answer: Any = types.SimpleNamespace(
            columns=["n"], rows=[(1,)], warnings=["range 1-2 lost"]
        )
        self.asked: list[tuple[Any, ...]] = []

    def run_query(self, data_dir, sql, *, tail_memory_bytes):
        self.asked.append((data_dir, sql, tail_memory_bytes))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def query(monkeypatch):
    module = FakeQuery()
    monkeypatch.setitem(sys.modules, "penstock.table", types.ModuleType("penstock.table"))
    monkeypatch.setitem(sys.modules, "penstock.table.query", module)
    return module


def test_query_prints_rows_and_warns_apart(query, capsys, tmp_path):
    assert run("query", "SELECT 1", "--data-dir", str(tmp_path), "--format", "ndjson") == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ('{"n": 1}\n', "warning: range 1-2 lost\n")
    assert query.asked == [(tmp_path, "SELECT 1", 64 << 20)]


def test_a_bad_data_directory_is_exit_3(query, capsys):
    query.answer = DataDirectoryError("data_directory_unusable", "no such data directory")
    assert run("query", "SELECT 1") == 3
    assert "no such data directory" in capsys.readouterr().err


def test_sql_that_fails_is_exit_1_with_its_message(query, capsys):
    query.answer = RuntimeError("no such column: evnt")
    assert run("query", "SELECT evnt") == 1
    assert capsys.readouterr().err == "penstock: no such column: evnt\n"


@pytest.mark.parametrize("command", ["serve", "query", "wal", "config"])
def test_help_is_there(command, capsys):
    assert run(command, "--help") == 0
    assert "usage: penstock" in capsys.readouterr().out


ROW = (
    1,
    None,
    "a,b",
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    date(2026, 1, 2),
    ["x"],
    True,
)
COLUMNS = ["n", "none", "text", "time", "date", "list", "bool"]


def written(output_format, columns=COLUMNS, rows=(ROW,)):
    output = io.StringIO()
    write_rows(output, columns, rows, output_format)
    return output.getvalue()


def test_csv_quotes_and_leaves_null_empty():
    assert written("csv").splitlines() == [
        "n,none,text,time,date,list,bool",
        '1,,"a,b",2026-01-02T03:04:05Z,2026-01-02,"[""x""]",true',
    ]


def test_json_is_one_array_and_ndjson_a_line_each():
    record = dict(zip(COLUMNS, ROW, strict=True)) | {
        "time": "2026-01-02T03:04:05Z",
        "date": "2026-01-02",
    }
    assert json.loads(written("json", rows=[ROW, ROW])) == [record, record]
    assert [json.loads(line) for line in written("ndjson", rows=[ROW, ROW]).splitlines()] == [
        record
    ] * 2


def test_no_rows_are_still_well_formed():
    assert written("json", rows=[]) == "[]\n"
    assert written("ndjson", rows=[]) == ""
    assert written("table", ["a"], []) == "a\n-\n(0 rows)\n"


def test_table_aligns_cuts_and_defuses():
    text = written("table", ["a", "b"], [(1, "x" * 100), (22, "\x1b[31mred")])
    lines = text.splitlines()
    assert lines[0].startswith("a   b")
    assert lines[2] == "1   " + "x" * 59 + "…"
    assert "\x1b" not in text
    assert lines[-1] == "(2 rows)"
