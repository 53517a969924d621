"""What was taken in from other logs, in any order, and read back."""

from pathlib import Path

import pytest

from penstock.errors import PenstockError
from penstock.tools import import_marks
from penstock.tools.import_marks import MARKS_FILE, Marks, read_marks, write_marks


def test_records_in_order_make_one_range() -> None:
    marks = Marks()
    for position in (3, 4, 5):
        marks.cover("a", position)
    marks.cover("b", 6)
    assert marks.lanes == {"a": [(3, 5)], "b": [(6, 6)]}
    assert [marks.covers("a", position) for position in (2, 3, 5, 6)] == [False, True, True, False]
    assert not marks.covers("c", 1)


def test_ranges_taken_in_out_of_order_are_kept_apart_and_all_covered() -> None:
    marks = Marks()
    for position in (4, 5, 8, 1, 2, 3, 5, 9):
        marks.cover("a", position)
    assert [position for position in range(12) if marks.covers("a", position)] == [
        1, 2, 3, 4, 5, 8, 9,
    ]  # fmt: skip


def test_marks_read_back_and_none_are_none(tmp_path: Path) -> None:
    assert read_marks(tmp_path) is None
    marks = Marks(lanes={"a": [(1, 2), (5, 9)]}, done=["x"], end=12)
    write_marks(tmp_path, marks)
    assert read_marks(tmp_path) == marks
    assert [path.name for path in tmp_path.iterdir()] == [MARKS_FILE]


@pytest.mark.parametrize("data", [b"", b"{", b'{"format": 2}', b'{"lanes": 3}'])
def test_marks_that_can_not_be_read_are_no_marks_of_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MARKS_FILE).write_bytes(data)
    with pytest.raises(PenstockError):
        read_marks(tmp_path)


def test_ranges_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_marks, "MAX_RANGES", 2)
    write_marks(tmp_path, Marks(lanes={"a": [(1, 1), (3, 3)]}))
    with pytest.raises(PenstockError):
        write_marks(tmp_path, Marks(lanes={"a": [(1, 1), (3, 3)], "b": [(1, 1)]}))
