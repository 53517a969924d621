"""What crossing from Python to Rust costs. Run by `make bench`; once each by `make bench-smoke`."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import bodies
from penstock import _core

BATCH = dict(_core.endpoints())["batch"]
IDENTITY, GZIP = 1, 2


def add_rates(benchmark: BenchmarkFixture, events: int, plain_bytes: int) -> None:
    """Put events/s and bytes/s of plain JSON beside the times."""
    # Without --benchmark-enable there are no times.
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["events_per_second"] = round(events / seconds)
        benchmark.extra_info["bytes_per_second"] = round(plain_bytes / seconds)


def test_calling_the_core(benchmark: BenchmarkFixture) -> None:
    """The crossing itself, and building a list of about forty tuples."""
    codes = benchmark(_core.codes)
    assert len(codes) == len({code for code, _, _ in codes})


@pytest.mark.parametrize("events", [1, 50, 500])
def test_decoding_a_plain_body(benchmark: BenchmarkFixture, events: int) -> None:
    body = bodies.body(events, seed=1)
    accepted = benchmark(_core.decode_for_bench, body, BATCH, IDENTITY)
    assert accepted == events
    add_rates(benchmark, events, len(body))


@pytest.mark.parametrize("events", [1, 50, 500])
def test_decoding_a_gzipped_body(benchmark: BenchmarkFixture, events: int) -> None:
    plain = bodies.body(events, seed=1)
    accepted = benchmark(_core.decode_for_bench, bodies.gzipped(plain), BATCH, GZIP)
    assert accepted == events
    add_rates(benchmark, events, len(plain))
