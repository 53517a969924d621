"""What a table had and has no longer, and how much of it is in the log."""

import pytest

from penstock.table.ranges import Range, missing_ranges, outside, ranges_text, within

NOTED = {"a": 10, "b": 25, "c": 40}


@pytest.mark.parametrize(
    ("seen", "missing"),
    [
        ({"a": 10, "b": 25, "c": 40}, []),
        ({"a": 10, "b": 25, "c": 41}, []),
        ({"a": 10, "b": 25, "c": 39}, [Range("c", 40, 40)]),
        ({"a": 10, "b": 25}, [Range("c", 26, 40)]),
        ({"a": 10, "b": 12}, [Range("b", 13, 25), Range("c", 26, 40)]),
        ({}, [Range("a", 1, 10), Range("b", 11, 25), Range("c", 26, 40)]),
        ({"d": 99}, [Range("a", 1, 10), Range("b", 11, 25), Range("c", 26, 40)]),
    ],
)
def test_what_was_committed_and_is_not_named_is_missing(
    seen: dict[str, int], missing: list[Range]
) -> None:
    assert missing_ranges(NOTED, seen) == missing


def test_lanes_that_overlap_are_never_left_out() -> None:
    # A log that was set back goes on at positions that another lane has.
    assert missing_ranges({"a": 10, "b": 10}, {"a": 10}) == [Range("b", 10, 10)]
    assert missing_ranges({"a": 10, "b": 10}, {}) == [Range("a", 1, 10), Range("b", 10, 10)]


def test_ranges_are_parted_by_what_the_log_has() -> None:
    ranges = [Range("a", 1, 10), Range("b", 11, 25)]
    spans = [("a", 4, 6), ("b", 20, 30), ("c", 31, 40)]
    assert within(ranges, spans) == [Range("a", 4, 6), Range("b", 20, 25)]
    assert outside(ranges, spans) == [
        Range("a", 1, 3),
        Range("a", 7, 10),
        Range("b", 11, 19),
    ]
    assert outside(ranges, []) == ranges
    assert within(ranges, []) == []
    assert outside(ranges, [("a", 1, 10), ("b", 1, 99)]) == []


def test_ranges_are_counted_and_written() -> None:
    assert Range("a", 3, 3).positions == 1
    assert Range("a", 3, 5).positions == 3
    text = ranges_text([Range("a", 1, 2), Range("b", 3, 4)])
    assert text == "positions 1 to 2 of lane a, positions 3 to 4 of lane b"
