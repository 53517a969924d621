"""One request at a time from `submit_http` to `drain`: the core's part of the latency, on disk."""

import itertools
import select
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import bodies
from penstock import _core
from penstock.config import Settings, engine_options

BATCH = dict(_core.endpoints())["batch"]
IDENTITY = 1
# Enough for a steady median; each round waits for the disk (about 0.5 ms).
ROUNDS = 300
ANSWER_SECONDS = 10.0
# Below the repository, not in /tmp: that may be memory, where every sync is free.
SCRATCH = Path(__file__).resolve().parents[2] / ".build"


@pytest.fixture
def engine() -> Iterator[_core.Engine]:
    """An engine on an empty data directory whose background has nothing to do during the run."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        settings = Settings(data_dir=Path(folder) / "data", flush_interval_seconds=3600)
        engine = _core.Engine(engine_options(settings))
        engine.start({"events": {}, "rejected": {}})
        yield engine
        engine.drain_and_stop_admission()
        engine.close()


def round_trip(engine: _core.Engine, body: bytes) -> _core.SubmitResult:
    """Submit one body and wait until it is on disk."""
    ticket = object()
    refusal = engine.submit_http(ticket, body, BATCH, IDENTITY, None, None)
    assert refusal is None
    while True:
        ready, _, _ = select.select([engine.completion_fd], [], [], ANSWER_SECONDS)
        assert ready, "no answer"
        for finished, result in engine.drain():
            assert finished is ticket
            assert isinstance(result, _core.SubmitResult)
            return result


@pytest.mark.parametrize("events", [1, 50])
def test_a_request_to_its_durable_answer(
    benchmark: BenchmarkFixture, engine: _core.Engine, events: int
) -> None:
    seeds = itertools.count()

    def fresh_body() -> tuple[tuple[_core.Engine, bytes], dict[str, object]]:
        # New ids each time: a duplicate would be another path.
        return (engine, bodies.body(events, seed=next(seeds))), {}

    result = benchmark.pedantic(round_trip, setup=fresh_body, rounds=ROUNDS, warmup_rounds=10)
    assert (result.accepted, result.duplicates, result.rejected) == (events, 0, 0)
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        size = len(bodies.body(events, seed=0))
        benchmark.extra_info["events_per_second"] = round(events / seconds)
        benchmark.extra_info["bytes_per_second"] = round(size / seconds)
