"""Engines below a folder of the test's own, closed at its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import _core
from penstock.config import Settings, engine_options
from support.core import OpenedEngine, OpenEngine


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[OpenEngine]:
    """Open engines below `tmp_path / "data"`; started unless told otherwise, closed at the end."""
    opened: list[OpenedEngine] = []

    def open_one(*, start: bool = True, **settings: Any) -> OpenedEngine:
        options = engine_options(Settings(data_dir=tmp_path / "data", **settings))
        engine = OpenedEngine(_core.Engine(options))
        opened.append(engine)
        if start:
            engine.core.start({"events": {}, "rejected": {}})
        return engine

    yield open_one
    for engine in opened:
        engine.core.close()


@pytest.fixture
def engine(open_engine: OpenEngine) -> OpenedEngine:
    return open_engine()
