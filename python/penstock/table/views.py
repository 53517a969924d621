"""A view of each table in DuckDB: files of a table's version, and rows of the log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

import duckdb

from penstock.table.schema import TableSchema, sql_columns

if TYPE_CHECKING:
    from deltalake import DeltaTable

_LANE: Final = re.compile(r"[0-9a-f]{32}")


# DuckDB takes this value of a partition directory for null.
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


class TableFile(NamedTuple):
    """One file of a table.

    Attributes:
        path: Absolute.
        partition: Values of the partition columns in their order, as SQL text, None for null; None
            if they are read out of the path.
    """

    path: str
    partition: tuple[str | None, ...] | None = None


@dataclass(slots=True)
class TablePart:
    """One table at one version, with the rows of the log above it.

    Attributes:
        schema: The columns that we know.
        table_json: Delta schema of that version; None if there is no table yet.
        table_files: Its files.
        tail_files: Paths of files with rows of the log; partition columns are inside.
        passed: Lane to the position up to which rows are in the table.
    """

    schema: TableSchema
    table_json: str | None
    table_files: Sequence[TableFile]
    tail_files: Sequence[str]
    passed: Mapping[str, int]

    def columns(self) -> dict[str, str]:
        """Give all columns in order, with their SQL types; those of the table come first."""
        known = self.schema.sql_columns()
        return known if self.table_json is None else {**sql_columns(self.table_json), **known}


def table_files(
    table: DeltaTable, directory: Path, partition_columns: Sequence[str]
) -> list[TableFile]:
    """List the files of a table; those with a path that DuckDB would misread, with their values.

    What counts is what the table says of a file, not its path: a project may be called what Hive
    calls null, and other writers may lay out their files otherwise.
    """
    readable = re.compile(
        "/".join(f"{column}=(?!{_HIVE_NULL}(?:/|$))[^/=]+" for column in partition_columns)
        + "/[^/=]+"
    )
    start = f"{directory}/"
    uris = table.file_uris()
    if all(readable.fullmatch(uri.removeprefix(start)) for uri in uris):
        return [TableFile(uri) for uri in uris]
    actions = table.get_add_actions(flatten=True)
    # The log's paths are encoded once more than those on disk.
    paths = [unquote(str(path)) for path in actions["path"].to_pylist()]
    columns = [actions[f"partition.{column}"].to_pylist() for column in partition_columns]
    return [
        TableFile(
            start + path,
            None
            if readable.fullmatch(path)
            else tuple(None if value is None else str(value) for value in values),
        )
        for path, *values in zip(paths, *columns, strict=True)
    ]


def open_connection(
    parts: Sequence[TablePart], readable: Sequence[str], tail_memory_bytes: int
) -> duckdb.DuckDBPyConnection:
    """Open a database in memory with a view of each table, and shut it off from all else.

    The SQL that runs in it can read the folders `readable` and nothing else, loads no extension
    and changes no setting.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": readable[-1],
        },
    )
    try:
        connection.execute("SET TimeZone = 'UTC'")
        for part in parts:
            _make_view(connection, part, tail_memory_bytes)
        folders = ", ".join(_quoted(folder) for folder in readable)
        connection.execute(f"SET allowed_directories = [{folders}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_view(
    connection: duckdb.DuckDBPyConnection, part: TablePart, tail_memory_bytes: int
) -> None:
    columns = part.columns()
    name = part.schema.name
    pieces = [_empty(columns)]
    by_path = [file.path for file in part.table_files if file.partition is None]
    partitions = {column: columns[column] for column in part.schema.partition_columns}
    if by_path:
        hive_types = ", ".join(f"{column}: {kind}" for column, kind in partitions.items())
        pieces.append(
            f"SELECT * FROM read_parquet({_list(by_path)}, hive_partitioning = true, "  # noqa: S608 - names are ours, values quoted
            f"hive_types = {{{hive_types}}}, union_by_name = true)"
        )
    others = [file for file in part.table_files if file.partition is not None]
    if others:
        pieces.append(_with_values(others, partitions))
    if part.tail_files:
        tail = (
            f"SELECT * FROM read_parquet({_list(part.tail_files)}, hive_partitioning = false, "  # noqa: S608 - names are ours, values quoted
            f"union_by_name = true) WHERE log_position > {_passed(part.passed)}"
        )
        if sum(Path(path).stat().st_size for path in part.tail_files) <= tail_memory_bytes:
            # Small: decoded once, however often the query looks at it.
            connection.execute(f"CREATE TEMP TABLE {name}_tail AS {tail}")
            tail = f"SELECT * FROM {name}_tail"  # noqa: S608 - a name of ours
        pieces.append(tail)
    selected = ", ".join(f'"{column}"::{kind} AS "{column}"' for column, kind in columns.items())
    union = " UNION ALL BY NAME ".join(pieces)
    connection.execute(f"CREATE VIEW {name} AS SELECT {selected} FROM ({union})")  # noqa: S608 - names are ours


def _with_values(files: Sequence[TableFile], columns: Mapping[str, str]) -> str:
    """Select the rows of files together with the partition values that the table says."""
    rows = ", ".join(
        f"({', '.join(_literal(value) for value in (file.path, *(file.partition or ())))})"
        for file in files
    )
    names = ", ".join(("penstock_path", *columns))
    typed = ", ".join(f'named."{column}"::{kind} AS "{column}"' for column, kind in columns.items())
    return (
        f"SELECT files.* EXCLUDE (filename), {typed} FROM read_parquet("  # noqa: S608 - names are ours, values quoted
        f"{_list([file.path for file in files])}, hive_partitioning = false, filename = true, "
        f"union_by_name = true) AS files JOIN (VALUES {rows}) AS named({names}) "
        "ON files.filename = named.penstock_path"
    )


def _empty(columns: Mapping[str, str]) -> str:
    nothing = ", ".join(f'NULL::{kind} AS "{column}"' for column, kind in columns.items())
    return f"SELECT {nothing} WHERE false"


def _passed(passed: Mapping[str, int]) -> str:
    """Write, as SQL, the position that the table has passed in a row's lane."""
    if not passed:
        return "-1"
    cases: list[str] = []
    for lane, position in passed.items():
        assert _LANE.fullmatch(lane), "lanes are 32 hexadecimal digits"  # noqa: S101 - goes into SQL
        cases.append(f"WHEN '{lane}' THEN {position:d}")
    return f"CASE lane {' '.join(cases)} ELSE -1 END"


def _list(paths: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, paths))}]"


def _literal(value: str | None) -> str:
    return "NULL" if value is None else _quoted(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
