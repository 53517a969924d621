"""The files of the repository, for tests that look at the code itself."""

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def files(*suffixes: str) -> list[Path]:
    """List files that are or would be committed, below `ROOT`; with `suffixes` only those."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = [ROOT / name for name in listed.stdout.split("\0") if name]
    return sorted(
        path for path in found if path.is_file() and (not suffixes or path.suffix in suffixes)
    )


def below(folder: str, *suffixes: str) -> list[Path]:
    """List the files below one folder of the repository."""
    return [path for path in files(*suffixes) if path.is_relative_to(ROOT / folder)]


@cache
def text(path: Path) -> str:
    """Read a text file."""
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    """Name a file as people do: relative to the repository."""
    return path.relative_to(ROOT).as_posix()


def rust_code(path: Path) -> str:
    """Read Rust code without comments and without what stands behind `#[cfg(test)]`.

    Good enough for looking for names: tests stand at the end of a file, and no string of ours
    holds `//` followed by one of the names looked for.
    """
    code = re.sub(r"//[^\n]*", "", text(path))
    return code.split("#[cfg(test)]\nmod ")[0]


def markdown_tables(path: Path) -> list[list[list[str]]]:
    """Read the tables of a Markdown file: tables of rows of cells, without the rule below the head.

    Backticks are taken off, and `\\|` in a cell is a bar.
    """
    tables: list[list[list[str]]] = []
    inside = False
    for line in text(path).splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            tables.append([])
            inside = True
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not all(set(cell) <= set("-: ") for cell in cells):
            tables[-1].append([cell.replace("\\|", "|").replace("`", "") for cell in cells])
    return tables


def table_headed(path: Path, *head: str) -> list[list[str]]:
    """Return the rows of the one table whose head begins with `head`."""
    found = [table for table in markdown_tables(path) if tuple(table[0][: len(head)]) == head]
    assert len(found) == 1, f"{name(path)} has {len(found)} tables headed {head}"
    return found[0][1:]
