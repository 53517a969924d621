"""Names of the files that the core writes: `<lane>-<first position>-<suffix>.parquet`.

Must agree with `rust_core/segment/src/names.rs`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_NAME: Final = re.compile(r"([0-9a-f]{32})-([0-9]{20})-[0-9a-f]{16}\.parquet")


class SegmentName(NamedTuple):
    """What a file's name says: the lane and the position of its first row."""

    lane: str
    first_position: int


def parse(name: str) -> SegmentName | None:
    """Read a file name; None if it is not one of ours."""
    match = _NAME.fullmatch(name)
    return SegmentName(match[1], int(match[2])) if match else None
