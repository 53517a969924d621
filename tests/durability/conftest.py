"""What the durability tests share besides `tests/conftest.py`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from durability.small_disk import SmallDisk, mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small file system that only programs started by its `launcher` see."""
    with mounted(tmp_path / "disk") as disk:
        yield disk
