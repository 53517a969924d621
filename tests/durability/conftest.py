"""What the durability tests share besides `tests/conftest.py`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from durability import near_checkpoint as near
from durability.load import Sent
from durability.small_disk import SmallDisk, mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small file system that only programs started by its `launcher` see."""
    with mounted(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture(scope="session")
def made_near_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> near.NearCheckpoint:
    """What `near_checkpoint` copies: leave it as it is."""
    return near.make(tmp_path_factory.mktemp("near-checkpoint"))


@pytest.fixture
def near_checkpoint(tmp_path: Path, made_near_checkpoint: near.NearCheckpoint) -> list[Sent]:
    """Let `start` go on some commits before the first checkpoint; give what was sent by then."""
    shutil.copytree(made_near_checkpoint.data_dir, tmp_path / "data")
    return made_near_checkpoint.sent
