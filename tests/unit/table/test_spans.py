"""The rule by which what was read of the log joins up with a table."""

import pytest

from penstock.table.spans import Gap, Span, missing_piece

A, B = "a", "b"


@pytest.mark.parametrize(
    ("spans", "passed", "gap"),
    [
        ([], {}, None),
        ([], {A: 5}, None),
        ([Span(A, 1, 9)], {}, None),
        # Released from the front before anything was committed by a lane that is still there.
        ([Span(B, 5, 9)], {}, None),
        ([Span(A, 5, 9)], {A: 4}, None),
        ([Span(A, 5, 9)], {A: 3}, Gap(4, 4, 3)),
        ([Span(A, 1, 3), Span(A, 6, 9)], {A: 5}, None),
        ([Span(A, 1, 3), Span(A, 6, 9)], {A: 4}, Gap(5, 5, 4)),
        ([Span(A, 1, 3), Span(A, 6, 9)], {}, Gap(4, 5, None)),
        ([Span(A, 1, 3), Span(B, 4, 9)], {A: 2}, None),
        ([Span(A, 1, 3), Span(B, 5, 9)], {A: 3}, Gap(4, 4, 3)),
        ([Span(A, 1, 3), Span(B, 5, 9)], {A: 3, B: 6}, None),
        ([Span(B, 5, 9), Span(A, 1, 4)], {}, None),
        ([Span(A, 1, 9)], {A: 20}, None),
    ],
)
def test_first_piece_above_the_transactions_that_was_not_read_is_found(
    spans: list[Span], passed: dict[str, int], gap: Gap | None
) -> None:
    assert missing_piece(spans, passed) == gap
