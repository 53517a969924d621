"""What became of a request that was sent, by the log of the server that took it.

An answer over HTTP doesn't tell stored events from those that were stored before. If the service
is the one whose log is at hand, its log does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from penstock.tools.log_view import LAST_POSITION, core_errors, read_records

Witness = Callable[[bytes], int | None]
"""From the body that was sent to the events of it that were accepted; None: not in this log."""


class LogWitness:
    """Reads the end of one log."""

    def __init__(self, data_dir: Path) -> None:
        """Note where the log ends now."""
        self._data_dir = data_dir
        self._last_position = _last_position(data_dir)

    def __call__(self, body: bytes) -> int | None:
        """Find the newest record with this payload among those that came since.

        Cost: reads the newest file of the log.
        """
        found = None
        first = self._last_position + 1
        for record in read_records(self._data_dir, first, LAST_POSITION, lambda _damage: None):
            self._last_position = record.position
            if record.payload_bytes == len(body) and record.payload() == body:
                found = record.accepted
        return found


def _last_position(data_dir: Path) -> int:
    from penstock import _core  # noqa: PLC0415 - the command line is read without the core

    last = 0
    with core_errors():
        # Nothing is wanted, so that every file but the newest is passed by unread.
        reader = _core.LogReader(str(data_dir), LAST_POSITION, LAST_POSITION)
        while (file := reader.next_file()) is not None:
            last = max(last, file.last_position)
    return last
