"""Every text file of the repository: size, form, and what it must not say."""

import re

from support.repository import files, name, text

SOURCES = (".rs", ".py", ".pyi", ".toml", ".md", ".proto")
# Files of 100 to 300 lines are at home here. Past this one, two ideas live in it.
MAX_LINES = 650
# Prose, a stub, and tables that are one idea however long they get.
MAY_BE_LONGER = {"README.md", "ARCHITECTURE.md"}


def ours() -> list[str]:
    return [
        name(path)
        for path in files(*SOURCES)
        if "python/penstock/_pb/" not in name(path) and not name(path).startswith("tests/vectors/")
    ]


def contents(path: str) -> str:
    return next(text(item) for item in files(*SOURCES) if name(item) == path)


def test_no_source_file_has_grown_beyond_one_idea() -> None:
    long = {path: contents(path).count("\n") for path in ours()}
    assert {
        path: lines
        for path, lines in long.items()
        if lines > MAX_LINES and path not in MAY_BE_LONGER
    } == {}


def test_text_ends_with_one_newline_and_has_no_trailing_space() -> None:
    bad = [
        path
        for path in ours()
        if contents(path)
        and (not contents(path).endswith("\n") or re.search(r"[ \t]+\n", contents(path)))
    ]
    assert bad == []


def test_no_unfinished_note_is_left() -> None:
    words = "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX"))
    assert [path for path in ours() if re.search(rf"\b({words})\b", contents(path))] == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    pattern = r"(?<![\w.])/(work|root|home/\w+)/[\w.]"
    assert [path for path in ours() if re.search(pattern, contents(path))] == []
