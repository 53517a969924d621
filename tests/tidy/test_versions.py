"""One version, and generated code that is what its source makes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import penstock
from penstock import _core
from support.repository import ROOT, text


def test_version_is_the_same_everywhere() -> None:
    cargo = tomllib.loads(text(ROOT / "Cargo.toml"))["workspace"]["package"]["version"]
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["version"]
    assert cargo == project == penstock.__version__ == _core.__version__


def test_changelog_has_a_place_for_what_comes_next() -> None:
    assert re.search(r"^## \[Unreleased\]$", text(ROOT / "CHANGELOG.md"), re.M)


def test_generated_code_is_what_the_proto_makes(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_proto.py"), "--output", str(tmp_path)],
        check=True,
        capture_output=True,
    )
    committed = ROOT / "python" / "penstock" / "_pb"
    made = {path.relative_to(tmp_path): path.read_bytes() for path in _generated(tmp_path)}
    kept = {path.relative_to(committed): path.read_bytes() for path in _generated(committed)}
    assert made
    assert kept == made, "run `make proto`"


def _generated(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*_pb2*.py*") if path.suffix in {".py", ".pyi"})
