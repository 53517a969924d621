"""README.md says what the code says: settings, codes, commands, columns, endpoints."""

import json
import re
import subprocess
import sys

import pytest

from penstock import _core
from penstock.table.schema import TABLES
from penstock.transport.http_routes import CAPTURE_ENDPOINTS
from support.repository import ROOT, files, name, table_headed, text

README = ROOT / "README.md"


def test_settings_codes_and_commands_of_the_readme_are_those_of_the_code() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "readme_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make readme`\n{done.stderr}"


@pytest.mark.parametrize("table", TABLES)
def test_columns_of_the_readme_are_those_of_the_table(table: str) -> None:
    fields = json.loads(_core.arrow_schema_json(table))["fields"]
    documented = [(row[0], row[1]) for row in table_headed(README, f"column of {table}")]
    assert documented == [(field["name"], _type_text(field)) for field in fields]


def _type_text(field: dict[str, object]) -> str:
    kind = field["type"]
    shown = f"array<{kind['elementType']}>" if isinstance(kind, dict) else str(kind)
    return shown + ("?" if field["nullable"] else "")


def test_every_capture_endpoint_is_in_the_readme() -> None:
    endpoints = " ".join(row[0] for row in table_headed(README, "endpoint"))
    for endpoint in CAPTURE_ENDPOINTS:
        assert re.search(rf"(?<!\S)/{endpoint}(?=,|$| )", endpoints), endpoint


def test_rooms_of_the_readme_exist() -> None:
    for folder, _ in table_headed(README, "folder"):
        assert (ROOT / folder).is_dir(), folder


@pytest.mark.parametrize("path", files(".md"), ids=name)
def test_links_between_documents_lead_somewhere(path: object) -> None:
    document = next(item for item in files(".md") if item == path)
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text(document))
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


def test_every_command_of_a_document_is_a_target_of_make() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", text(ROOT / "Makefile")))
    for document in files(".md"):
        used = set(re.findall(r"`make ([a-z-]+)", text(document)))
        assert used <= targets, name(document)


def test_every_document_that_code_names_exists() -> None:
    known = {path.name for path in files(".md")}
    for path in files(".rs", ".py", ".pyi", ".proto", ".toml"):
        named = set(re.findall(r"\b[\w-]+\.md\b", text(path)))
        assert named <= known, name(path)
