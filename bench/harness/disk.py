"""What the disk itself takes for a write and a sync, with no service around it.

A virtual disk is served by the machine that runs the virtual processors, and takes longer while
they compute. So it is asked both on an idle machine and beside a process that computes half of the
time, as a server at half load does.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.server import SERVER_CORE

FILE_BYTES = 64 << 20
BLOCK = 4096
# Keeps a core busy for half of the time, and yields it at once to whoever wants it.
COMPUTE = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
print("ready", flush=True)
while True:
    until = time.perf_counter() + 0.005
    while time.perf_counter() < until:
        pass
    time.sleep(0.005)
"""


@dataclass(frozen=True, kw_only=True)
class SyncTimes:
    """Times of one write and `fdatasync`, in milliseconds."""

    p50_ms: float
    p99_ms: float
    count: int


@contextlib.contextmanager
def on_the_core_of_the_server(*, computing: bool) -> Iterator[None]:
    """Run the block where the server runs, alone or beside one that computes half of the time."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(SERVER_CORE)})
    try:
        if not computing:
            yield
            return
        command = [sys.executable, "-c", COMPUTE, SERVER_CORE]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            try:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
                yield
            finally:
                child.kill()
    finally:
        os.sched_setaffinity(0, allowed)


def sync_times(folder: Path, size: int, seconds: float, per_second: float) -> SyncTimes:
    """Write and sync `size` bytes at a rate, as the log does: in a file that was filled.

    The rate is to be the log's: a disk that is asked again at once answers sooner than one that is
    asked now and then, since whoever serves it is still awake. The file stays until the folder
    goes: a disk that is told of 64 MB less is slow for a while.
    """
    size = min(FILE_BYTES, max(BLOCK, -(-size // BLOCK) * BLOCK))
    path = folder / "sync_times"
    piece = os.urandom(size)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        for offset in range(0, FILE_BYTES, len(piece)):
            os.pwrite(descriptor, piece, offset)
        os.fsync(descriptor)
        times = []
        offset = 0
        due = began = time.perf_counter()
        until = began + seconds
        while began < until:
            os.pwrite(descriptor, piece, offset)
            os.fdatasync(descriptor)
            now = time.perf_counter()
            times.append(now - began)
            offset = offset + size if offset + 2 * size <= FILE_BYTES else 0
            # Behind its rate it does not hurry, which would be another rate.
            due = max(due + 1 / per_second, now)
            time.sleep(due - now)
            began = time.perf_counter()
    finally:
        os.close(descriptor)
    times.sort()
    return SyncTimes(
        p50_ms=times[len(times) // 2] * 1e3,
        p99_ms=times[len(times) * 99 // 100] * 1e3,
        count=len(times),
    )
