"""Syncing what the table library writes: it syncs nothing itself.

A plain `os.fsync` after the fact will do: the data of a closed file may be synced by any later
descriptor. But Linux tells of a failed write once: a second fsync of the same file says "fine"
while the bytes are only in memory, marked as clean. So after a failure a file's bytes are written
once more in place, which makes them dirty again, and synced; if that fails too, or if it was a
directory, commits are held (TAB-2).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from penstock.logs import logger
from penstock.table.errors import HoldCommitsError
from penstock.table.redaction import redacted

_log = logger("table")

# A checkpoint of 100,000 files has 42 MB; it need not be in memory at once.
_CHUNK_BYTES: Final = 1 << 20


def sync_file(path: Path) -> bool:
    """Sync one file. Durability: its contents, not its name.

    Returns:
        Whether the disk failed and its bytes were written again, as they were in memory.

    Raises:
        HoldCommitsError: The disk failed twice. Nobody knows what of the file is on it.
        OSError: The file could not be opened; nothing is known to be lost.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        _log.warning("sync_failed_written_again", file=path.name, error=error.strerror)
    else:
        return False
    finally:
        os.close(descriptor)
    rewrite_synced(path)
    return True


def rewrite_synced(path: Path) -> None:
    """Write a file's bytes once more in place, and sync them. Durability: as of `sync_file`.

    For files of which it is not known that an earlier sync, perhaps of another process, succeeded.
    Readers see the same bytes all the time.

    Raises:
        HoldCommitsError: It failed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            offset = 0
            while chunk := os.pread(descriptor, _CHUNK_BYTES, offset):
                view = memoryview(chunk)
                while view:
                    written = os.pwrite(descriptor, view, offset)
                    view = view[written:]
                    offset += written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _sync_failed(path, error) from error


def sync_directory(path: Path) -> None:
    """Sync one directory. Durability: the names in it.

    Raises:
        HoldCommitsError: The disk failed; there is nothing that could be written again.
        OSError: The directory could not be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _sync_failed(path, error) from error
    finally:
        os.close(descriptor)


def sync_directories_up_to(leaves: Iterable[Path], top: Path) -> None:
    """Sync the directories `leaves`, and each one above them up to and with `top`.

    Durability: every file in a leaf is found again after a power cut.

    Raises:
        HoldCommitsError: As of `sync_directory`.
    """
    wanted: set[Path] = set()
    for leaf in leaves:
        directory = leaf
        while directory not in wanted:
            wanted.add(directory)
            if directory in (top, directory.parent):
                break
            directory = directory.parent
    # Deepest first: a name is worth nothing before what it names is there.
    for directory in sorted(wanted, key=lambda path: len(path.parts), reverse=True):
        sync_directory(directory)


def _sync_failed(path: Path, error: OSError) -> HoldCommitsError:
    return HoldCommitsError(
        "table_sync_failed",
        f"{redacted(path.name)} could not be synced: {error.strerror}; "
        "look at the disk, then restart",
    )
