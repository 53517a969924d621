"""Lock files: everything pinned and hashed, nothing tied to a host; one build of each crate."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from support.repository import ROOT, below, files, name, text

LOCKS = [
    *sorted((ROOT / "requirements").glob("*.txt")),
    *sorted((ROOT / "bench").rglob("requirements.txt")),
]


def pins(path: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", text(ROOT / path), re.M)
    return dict(found)


@pytest.mark.parametrize("path", LOCKS, ids=name)
def test_lock_file_names_no_host_and_hashes_everything(path: Path) -> None:
    content = text(path)
    assert "://" not in content
    assert "--index" not in content
    assert "--find-links" not in content
    assert "make lock" in content
    blocks = re.split(r"^(?=[\w.-]+==)", content, flags=re.M)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)


def test_no_committed_file_but_cargos_lock_names_a_package_index() -> None:
    hosts = re.compile(r"pypi\.org|pythonhosted|registry\.npm|^\s*(extra-)?index-url *=", re.M)
    suffixes = {"", ".cfg", ".in", ".json", ".lock", ".mod", ".sh", ".sum", ".toml", ".txt"}
    naming = {
        name(path)
        for path in files()
        # The inputs of fuzzing have no suffix either, and are bytes.
        if path.suffix in suffixes and "corpus" not in path.parts and hosts.search(text(path))
    }
    assert naming <= {"Cargo.lock"}


def test_tests_run_with_the_versions_that_the_service_runs_with() -> None:
    runtime, dev = pins("requirements/runtime.txt"), pins("requirements/dev.txt")
    assert runtime.items() <= dev.items()


def test_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))
    asked = {re.split(r"[<>=~!;\[ ]", line)[0] for line in project["project"]["dependencies"]}
    assert asked <= pins("requirements/runtime.txt").keys()
    assert pins("requirements/build.txt").keys() >= {"maturin"}
    assert pins("requirements/uv.txt").keys() == {"uv"}


def test_features_of_outside_crates_stand_only_in_the_root_manifest() -> None:
    # Else building one crate and building all would compile the heavy ones twice.
    for path in [*below("rust_core", ".toml"), *below("bench/rust", ".toml")]:
        if path.name != "Cargo.toml" or "fuzz" in path.parts:
            continue
        manifest = tomllib.loads(text(path))
        for section in ("dependencies", "dev-dependencies", "build-dependencies"):
            for crate, value in manifest.get(section, {}).items():
                if not crate.startswith("penstock-"):
                    assert value == {"workspace": True}, f"{name(path)}: {crate}"


def heavy_crates(*arguments: str) -> set[str]:
    """List the Arrow and Parquet crates with their features, as cargo resolves them."""
    tree = subprocess.run(
        [
            *("cargo", "tree", "--locked", "--offline", "--edges", "normal"),
            *("--prefix", "none", "--format", "{p} {f}", *arguments),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = (line.removesuffix(" (*)") for line in tree.stdout.splitlines())
    return {line for line in lines if line.startswith(("arrow-", "parquet ", "zstd-sys ", "pyo3 "))}


def test_arrow_is_compiled_once() -> None:
    workspace = heavy_crates("--workspace")
    assert heavy_crates("-p", "penstock-py", "--features", "testing") == workspace
    assert heavy_crates("-p", "penstock-segment") <= workspace
    assert any(line.startswith("parquet ") for line in workspace)
