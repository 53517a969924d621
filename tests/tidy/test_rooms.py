"""Absences that make the code easy to reason about (ARCHITECTURE.md): who may do what, where."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from support.repository import ROOT, below, name, rust_code, text

CRATES = ("model", "disk", "decode", "dedup", "cookieless", "wal", "segment", "engine", "py")
# Who may depend on whom. Tests may also use what their room may not.
DEPENDENCIES = {
    "model": set(),
    "disk": set(),
    "decode": {"model"},
    "dedup": {"model", "disk"},
    "cookieless": {"model", "disk"},
    "wal": {"model", "disk"},
    "segment": {"model", "disk"},
    "engine": {"model", "disk", "decode", "dedup", "cookieless", "wal", "segment"},
    "py": {"model", "engine"},
}
# The only ones who may name a crate: what is heavy or dangerous stays in one room.
ONLY_IN = {
    "arrow-array": {"segment"},
    "arrow-buffer": {"segment"},
    "arrow-schema": {"segment"},
    "parquet": {"segment"},
    "base64": {"decode"},
    "brotli-decompressor": {"decode"},
    "libdeflate-sys": {"decode"},
    "pyo3": {"py"},
    "siphasher": {"dedup", "cookieless"},
    "jiff": {"cookieless"},
    "psl": {"cookieless"},
}

# The same for the rooms of the package, by module or folder below `python/penstock`. What all may
# use stands in `COMMON`; the core and generated code are told apart from them by name.
PYTHON_ROOMS = {
    "transport": {"config", "engine", "outcomes", "posthog", "retry_info", "_pb"},
    "posthog": {"config", "outcomes"},
    "table": {"_core", "config"},
    "admin": {"engine", "transport"},
    "client": {"retry_info", "_pb"},
    "engine": {"_core", "config", "outcomes"},
    "tools": {"_core", "cli_output", "config", "table"},
    "retry_info": set(),
    "outcomes": set(),
    "config": set(),
    "config_loading": {"config", "config_projects"},
    "config_projects": {"config"},
    "reload": {"config"},
    "greeting": set(),
    "scheduling": set(),
    "errors": set(),
    "logs": set(),
}
COMMON = {"errors", "logs", "__version__"}


def manifest(crate: str) -> dict[str, dict[str, object]]:
    return tomllib.loads(text(ROOT / "rust_core" / crate / "Cargo.toml"))


def rust_files(*crates: str) -> list[Path]:
    return [path for crate in crates for path in below(f"rust_core/{crate}/src", ".rs")]


def naming(pattern: str, paths: list[Path]) -> list[str]:
    return [name(path) for path in paths if re.search(pattern, rust_code(path))]


@pytest.mark.parametrize("crate", CRATES)
def test_crate_depends_only_on_rooms_that_it_may_know(crate: str) -> None:
    named = {
        key.removeprefix("penstock-")
        for key in manifest(crate)["dependencies"]
        if key.startswith("penstock-")
    }
    assert named <= DEPENDENCIES[crate]


@pytest.mark.parametrize("dependency", ONLY_IN)
def test_heavy_or_dangerous_crate_is_named_by_one_room(dependency: str) -> None:
    users = {crate for crate in CRATES if dependency in manifest(crate)["dependencies"]}
    assert users <= ONLY_IN[dependency]


def test_only_disk_names_the_file_system() -> None:
    others = [crate for crate in CRATES if crate != "disk"]
    assert naming(r"\bstd::fs\b|\brustix::fs\b|\bFile::(open|create)\b", rust_files(*others)) == []


def test_only_the_clock_of_model_reads_the_time() -> None:
    readers = naming(r"\b(Instant|SystemTime)::now\b|\bthread::sleep\b", rust_files(*CRATES))
    assert set(readers) <= {"rust_core/model/src/clock.rs"}


def test_decode_does_no_io_and_reads_no_clock() -> None:
    pattern = r"\bstd::(fs|env|process|thread|time)\b|\bClock\b|\brustix\b"
    assert naming(pattern, rust_files("decode")) == []


def test_one_file_of_decode_names_raw_decompressors() -> None:
    pattern = r"\blibdeflate_sys\b|\bzstd_safe\b|\bzstd_sys\b|\bbrotli_decompressor\b"
    assert len(naming(pattern, rust_files("decode"))) <= 1


def test_codes_exist_in_one_rust_file() -> None:
    codes = re.findall(r'^\s+\w+, "(\w+)",', text(ROOT / "rust_core/model/src/code.rs"), re.M)
    assert len(codes) > 30
    # An engine that is starting has a state of that name, which is no code.
    quoted = "|".join(code for code in codes if code != "starting")
    elsewhere = naming(rf'"({quoted})"', rust_files(*CRATES))
    # A room's operating errors carry their codes: some are those that requests are refused with.
    assert {path for path in elsewhere if not path.endswith("/error.rs")} <= {
        "rust_core/model/src/code.rs"
    }


def test_binding_crate_holds_no_rule() -> None:
    lines = sum(rust_code(path).count("\n") for path in rust_files("py"))
    named = text(ROOT / "python/penstock/_core.pyi").count("\n")
    # Adapting what `_core.pyi` names takes up to three lines for each line there; a rule would be
    # seen here first.
    assert lines < 3 * named


@pytest.mark.parametrize("room", PYTHON_ROOMS)
def test_room_of_the_package_knows_only_what_it_may(room: str) -> None:
    paths = below(f"python/penstock/{room}", ".py") or [ROOT / f"python/penstock/{room}.py"]
    known = {module for path in paths for module in imported(text(path))}
    assert known - COMMON - {room} <= PYTHON_ROOMS[room]


def imported(source: str) -> set[str]:
    """The parts of penstock that a module names in its imports, wherever they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "penstock":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("penstock."):
            names.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            parts = (alias.name.split(".") for alias in node.names)
            names |= {part[1] for part in parts if part[0] == "penstock" and len(part) > 1}
    return names


def test_nothing_of_the_package_imports_its_wiring() -> None:
    importers = [
        name(path)
        for path in below("python/penstock", ".py")
        if path.name not in {"app.py", "cli.py", "__main__.py"}
        and re.search(r"^\s*(from|import) penstock\.(app|cli)\b", text(path), re.M)
    ]
    assert importers == []
