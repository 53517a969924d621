"""What the tables look like. Their columns are named in one place: the core."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

PARTITION_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "events": ("project", "date"),
    "rejected": ("date",),
    "recordings": ("project", "date"),
}
TABLES: Final = tuple(PARTITION_COLUMNS)

# Made with their first row, not at the start: most servers get none, and a table that is there
# takes a commit each time that files of the log go.
_MADE_LATE: Final = frozenset({"recordings"})

# Delta's simple types as DuckDB names them.
_SQL_TYPES: Final = {
    "string": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "boolean": "BOOLEAN",
    "integer": "INTEGER",
    "long": "BIGINT",
    "double": "DOUBLE",
}


@dataclass(frozen=True, slots=True)
class TableSchema:
    """Name, columns and partitioning of one table.

    Attributes:
        name: Name of the table and of its folder in the data directory.
        schema_json: Delta schema JSON, partition columns in their places.
    """

    name: str
    schema_json: str

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """Columns that are in the path instead of the files."""
        return PARTITION_COLUMNS[self.name]

    @property
    def made_at_start(self) -> bool:
        """Whether the table is there from the first start on, without a row."""
        return self.name not in _MADE_LATE

    def sql_columns(self) -> dict[str, str]:
        """Give the columns in order, with their types in SQL."""
        return sql_columns(self.schema_json)


def sql_columns(schema_json: str) -> dict[str, str]:
    """Give the columns of a Delta schema in order, with their types in SQL."""
    return {field["name"]: _sql_type(field["type"]) for field in json.loads(schema_json)["fields"]}


def column_types(schema_json: str) -> dict[str, object]:
    """Give the columns with their Delta types, for comparing schemas."""
    return {field["name"]: field["type"] for field in json.loads(schema_json)["fields"]}


def core_schema(name: str) -> TableSchema:
    """Ask the core for the columns of a table."""
    from penstock import _core  # noqa: PLC0415 - tests of this room run without it

    return TableSchema(name, _core.arrow_schema_json(name))


def _sql_type(delta_type: object) -> str:
    if isinstance(delta_type, dict):
        return f"{_sql_type(delta_type['elementType'])}[]"
    return _SQL_TYPES[str(delta_type)]
