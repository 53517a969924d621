"""Ranges of the log that a table had and has no longer, lane by lane.

Positions grow from lane to lane (WAL-3), so a lane begins right behind the one before it at the
earliest. That bound is all that is known of a lane of which the table has nothing left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Range(NamedTuple):
    """Positions of one lane, both ends included."""

    lane: str
    first: int
    last: int

    @property
    def positions(self) -> int:
        """How many they are."""
        return self.last - self.first + 1


def missing_ranges(noted: Mapping[str, int], seen: Mapping[str, int]) -> list[Range]:
    """Give what was committed by the note and is not by the table's transactions, oldest first.

    Args:
        noted: Lane to the position that was committed.
        seen: Lane to the position that the table names now.
    """
    found: list[Range] = []
    before = 0
    for lane, last in sorted(noted.items(), key=lambda item: item[1]):
        reached = seen.get(lane, -1)
        if reached < last:
            # In a log that was set back, lanes may overlap: what is missing is never left out.
            found.append(Range(lane, min(max(before, reached) + 1, last), last))
        before = last
    return found


def within(ranges: Iterable[Range], spans: Sequence[tuple[str, int, int]]) -> list[Range]:
    """Give the parts of ranges that are in the log, by its (lane, first, last)."""
    parts = (
        Range(one.lane, max(one.first, first), min(one.last, last))
        for one in ranges
        for lane, first, last in spans
        if lane == one.lane
    )
    return [part for part in parts if part.first <= part.last]


def outside(ranges: Iterable[Range], spans: Sequence[tuple[str, int, int]]) -> list[Range]:
    """Give the parts of ranges that have left the log."""
    left: list[Range] = []
    for one in ranges:
        first = one.first
        for part in sorted(within([one], spans), key=lambda part: part.first):
            if first < part.first:
                left.append(Range(one.lane, first, part.first - 1))
            first = max(first, part.last + 1)
        if first <= one.last:
            left.append(Range(one.lane, first, one.last))
    return left


def ranges_text(ranges: Iterable[Range]) -> str:
    """Write ranges for people: `positions 5 to 9 of lane …`."""
    return ", ".join(f"positions {one.first} to {one.last} of lane {one.lane}" for one in ranges)
