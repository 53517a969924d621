"""Syncing directories, for tools that move or replace files in them."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Sync one directory. Durability: the names in it.

    Unlike the committer's own (`table/durable.py`), which holds commits on a failure, this leaves
    it to whoever ran the tool.

    Raises:
        OSError: It could not be opened, or the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
