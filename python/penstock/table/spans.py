"""Whether what was read of the log joins up with what a table has.

Positions go on from lane to lane and are never reused, so all spans lie on one line. A table has
everything up to the highest of its transactions: a cut covers all lanes below its position. Above
that, up to the last position that was read, nothing may be missing. Below the first span there is
nothing to miss unless a transaction says that it is not committed: log files go from the front, and
only once all tables have passed them (TAB-3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """Positions of one lane, both ends included, that were read or passed on purpose."""

    lane: str
    first: int
    last: int


class Gap(NamedTuple):
    """Positions that are neither in the table nor were they read, and what the table had passed.

    With `passed` in it, the same piece missing twice is equal only if the table did not move.
    """

    first: int
    last: int
    passed: int | None


def missing_piece(spans: Sequence[Span], passed: Mapping[str, int]) -> Gap | None:
    """Find the first piece above a table's transactions that was not read.

    Args:
        spans: What was read, in any order.
        passed: Lane to position, of the table's version that is to be joined.
    """
    if not spans:
        return None
    ordered = sorted(spans, key=lambda span: span.first)
    highest = max(passed.values(), default=None)
    covered = ordered[0].first - 1 if highest is None else highest
    for span in ordered:
        if span.first > covered + 1:
            return Gap(covered + 1, span.first - 1, highest)
        covered = max(covered, span.last)
    return None
