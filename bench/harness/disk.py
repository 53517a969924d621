"""What the disk itself takes for a write and a sync, with no service around it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES = 64 << 20
BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class SyncTimes:
    """Times of one write and `fdatasync`, in milliseconds."""

    p50_ms: float
    p99_ms: float
    count: int


def sync_times(folder: Path, size: int, seconds: float) -> SyncTimes:
    """Write and sync `size` bytes again and again, as the log does: in a file that was filled."""
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
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            os.pwrite(descriptor, piece, offset)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began)
            offset = offset + size if offset + 2 * size <= FILE_BYTES else 0
    finally:
        os.close(descriptor)
        path.unlink()
    times.sort()
    return SyncTimes(
        p50_ms=times[len(times) // 2] * 1e3,
        p99_ms=times[len(times) * 99 // 100] * 1e3,
        count=len(times),
    )
