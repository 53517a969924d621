"""Sends one file to a connection: a chunk at a time, read on a thread, at the client's pace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from penstock.posthog.static_files import StaticFile

# A hop to a thread for each; more would only be held longer for a client that is slow.
CHUNK_BYTES: Final = 64 << 10


class Receiver(Protocol):
    """The connection, as far as a file is sent to it."""

    def send_chunk(self, chunk: bytes) -> bool:
        """Write a chunk; tell whether another may follow at once."""

    def file_sent(self) -> None:
        """Go on with what comes behind the file."""

    def abort(self) -> None:
        """Close at once: the client must not take a part for the whole."""


class FileSender:
    """Sends one file. All methods run on the loop's thread.

    Attributes:
        since: When it began, on the front's clock.
    """

    __slots__ = ("_cancelled", "_executor", "_file", "_offset", "_reading", "_receiver", "since")

    def __init__(
        self, receiver: Receiver, file: StaticFile, executor: Executor, since: float
    ) -> None:
        self._receiver = receiver
        self._file = file
        self._executor = executor
        self._offset = 0
        self._reading = False
        self._cancelled = False
        self.since = since

    def go(self) -> None:
        """Send the next chunk, unless one is being read already."""
        if self._reading:
            return
        left = self._file.size - self._offset
        if left <= 0:
            self._file.close()
            self._receiver.file_sent()
            return
        self._reading = True
        loop = asyncio.get_running_loop()
        size = min(left, CHUNK_BYTES)
        reading = loop.run_in_executor(self._executor, self._file.read, self._offset, size)
        reading.add_done_callback(self._send)

    def cancel(self) -> None:
        """Send no more, and close the file, now or once it is no longer being read."""
        self._cancelled = True
        if not self._reading:
            self._file.close()

    def _send(self, reading: asyncio.Future[bytes]) -> None:
        self._reading = False
        chunk = b"" if reading.cancelled() or reading.exception() else reading.result()
        if self._cancelled:
            self._file.close()
        elif not chunk:
            # It has become shorter, or can't be read.
            self._receiver.abort()
        else:
            self._offset += len(chunk)
            if self._receiver.send_chunk(chunk):
                self.go()
