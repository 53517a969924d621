"""Waiting for what a server does by itself."""

import threading
from collections.abc import Callable

from support.server import RunningServer

# One request each: until the preallocated files of the log are used up.
MAX_TRIES = 2_000
WAIT_SECONDS = 0.02


def until(done: Callable[[], bool], what: str, server: RunningServer) -> None:
    """Wait for something that the server does by itself."""
    pause = threading.Event()
    for _ in range(MAX_TRIES):
        if done():
            return
        pause.wait(WAIT_SECONDS)
    raise AssertionError(f"{what}\n{server.log()}")
