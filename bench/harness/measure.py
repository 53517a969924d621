"""Runs one scenario once: server up, warm-up, load, drain, count."""

import shutil
import tempfile
import time
from pathlib import Path

from harness.disk import SyncTimes, on_the_core_of_the_server, sync_times
from harness.load import Offered, offer
from harness.restart import restart
from harness.scenario import Scenario
from harness.server import ROOT, Life, Peer, Penstock, cpu_seconds, start

# On the disk that the repository is on: a memory file system would make every sync free.
SCRATCH = ROOT / ".build" / "bench"

# The search for the sustained rate: each try runs this long, and the log may grow by this share of
# what was offered before the rate counts as too high.
TRY_SECONDS = 20.0
SEARCH_STEPS = 5
GROWTH_SHARE = 0.02
SETTLE_SECONDS = 120

Row = dict[str, float]


def measure(scenario: Scenario, program: Path, *, smoke: bool) -> Row:
    """Run `scenario` once and give its numbers.

    Raises:
        SystemExit: A request failed, or what is stored is not what was acknowledged.
    """
    SCRATCH.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{scenario.name}-", dir=SCRATCH))
    try:
        if scenario.kind == "restart":
            row, acknowledged, last, life = restart(scenario, program, folder, smoke=smoke)
            return _finished(scenario, last, life, row, acknowledged)
        server = start(scenario, folder)
        try:
            if scenario.kind == "sustained":
                assert isinstance(server, Penstock)
                row, acknowledged = _sustained(scenario, program, server, smoke=smoke)
            elif scenario.kind == "acknowledge":
                assert isinstance(server, Penstock)
                row, acknowledged = _acknowledge(scenario, program, server, folder)
            else:
                warmup = 0
                target = server.target(scenario.protocol)
                if scenario.warmup_seconds > 0:
                    seconds = scenario.warmup_seconds
                    warmup = offer(
                        program, scenario, target, server.pid, seconds=seconds, id_space=0
                    ).events
                offered = offer(
                    program, scenario, target, server.pid, seconds=scenario.seconds, id_space=1
                )
                row, acknowledged = _rates(offered), warmup + offered.events
            life = server.stop()
        finally:
            server.kill()
        return _finished(scenario, server, life, row, acknowledged)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _finished(
    scenario: Scenario, server: Penstock | Peer, life: Life, row: Row, acknowledged: int
) -> Row:
    """Check what is stored, and add what the server's whole life took."""
    stored, different = server.stored()
    if (stored, different) != (acknowledged, acknowledged):
        message = (
            f"{scenario.name}: acknowledged {acknowledged} events, stored {stored} rows "
            f"with {different} different ids"
        )
        raise SystemExit(message)
    row["stored_events"] = stored
    row["max_rss_mb"] = life.max_rss_mb
    row["drain_seconds"] = life.drain_seconds
    row["life_cpu_seconds"] = life.cpu_seconds
    row["stored_per_cpu_second"] = stored / life.cpu_seconds
    return row


def _acknowledge(
    scenario: Scenario, program: Path, server: Penstock, folder: Path
) -> tuple[Row, int]:
    """The time to the acknowledgement at half load, beside the disk's own.

    Half load keeps the server's core busy for half of the time, with all that an event costs until
    it is in the table. Flat out it costs less than at a lower rate, where fewer requests share a
    sync, so what is found there is only where the rate for half a core is looked for. A server
    that keeps up with 1,400 requests/s of 50 for good has half load at about 700.

    The disk is asked before and after, on the same file system and core, for as many writes a
    second as there are commit groups at that rate, and as large: beside a process that computes
    half of the time, and on an idle machine.
    """
    target = server.target(scenario.protocol)
    acknowledged = 0

    def run(space: int, rate: int | None, seconds: float) -> Offered:
        nonlocal acknowledged
        _settle(server)
        offered = offer(
            program, scenario, target, server.pid, seconds=seconds, id_space=space, rate=rate
        )
        acknowledged += offered.events
        return offered

    def run_and_settle(space: int, rate: int | None) -> tuple[Offered, float]:
        """Also the CPU seconds until all is in the table, where all before it is already."""
        began = cpu_seconds(server.pid)
        offered = run(space, rate, scenario.seconds / 3)
        _settle(server)
        # A smoke run may be shorter than one tick of the clock.
        return offered, max(cpu_seconds(server.pid) - began, 0.01)

    ceiling, ceiling_cpu = run_and_settle(0, None)
    capacity = ceiling.requests / ceiling_cpu
    guess, guess_cpu = run_and_settle(1, max(1, int(capacity / 2)))
    rate = max(1, int(guess.requests / guess_cpu / 2))
    groups = server.metric("penstock_wal_commit_groups_total")
    warm = run(2, rate, scenario.seconds / 3)
    groups = max(1.0, server.metric("penstock_wal_commit_groups_total") - groups)
    group_bytes = int(warm.bytes / groups)

    def disk(*, computing: bool) -> SyncTimes:
        _settle(server)
        with on_the_core_of_the_server(computing=computing):
            return sync_times(folder, group_bytes, scenario.seconds / 6, groups / warm.seconds)

    before, before_idle = disk(computing=True), disk(computing=False)
    offered = run(3, rate, scenario.seconds)
    after, after_idle = disk(computing=True), disk(computing=False)
    disk_p99_ms = max(before.p99_ms, after.p99_ms)
    idle_disk_p99_ms = max(before_idle.p99_ms, after_idle.p99_ms)
    row = _rates(offered) | {
        "ceiling_events_per_second": ceiling.events / ceiling.seconds,
        "capacity_events_per_second": capacity * scenario.events,
        "group_bytes": float(group_bytes),
        "disk_p50_ms": max(before.p50_ms, after.p50_ms),
        "disk_p99_ms": disk_p99_ms,
        "idle_disk_p50_ms": max(before_idle.p50_ms, after_idle.p50_ms),
        "idle_disk_p99_ms": idle_disk_p99_ms,
        "p99_above_disk_ms": offered.p99_ms - disk_p99_ms,
        "p99_above_idle_disk_ms": offered.p99_ms - idle_disk_p99_ms,
        "unsent_requests": float(offered.unsent),
    }
    return row, acknowledged


def _rates(offered: Offered) -> Row:
    # A smoke run may be shorter than one tick of the clock.
    server_cpu = max(offered.server_cpu_seconds, 0.01)
    return {
        "requests_per_second": offered.requests / offered.seconds,
        "events_per_second": offered.events / offered.seconds,
        "megabytes_per_second": offered.bytes / offered.seconds / 1e6,
        "events_per_cpu_second": offered.events / server_cpu,
        "requests_per_cpu_second": offered.requests / server_cpu,
        "server_cores": offered.server_cpu_seconds / offered.seconds,
        "load_cores": offered.load_cpu_seconds / offered.seconds,
        "p50_ms": offered.p50_ms,
        "p90_ms": offered.p90_ms,
        "p99_ms": offered.p99_ms,
        "p999_ms": offered.p999_ms,
        "seconds": offered.seconds,
    }


def _sustained(
    scenario: Scenario, program: Path, server: Penstock, *, smoke: bool
) -> tuple[Row, int]:
    """Halve the interval of rates until it is narrow, then hold the rate that was kept up.

    Open loop: latencies count from the intended start of each request.
    """
    acknowledged = 0
    space = 0

    def attempt(rate: int | None, seconds: float) -> tuple[Offered, bool]:
        nonlocal acknowledged, space
        _settle(server)
        before = server.backlog_bytes()
        target = server.target(scenario.protocol)
        offered = offer(
            program, scenario, target, server.pid, seconds=seconds, id_space=space, rate=rate
        )
        growth = server.backlog_bytes() - before
        acknowledged += offered.events
        space += 1
        # One flush interval of events is always on its way to the table.
        allowed = GROWTH_SHARE * offered.bytes + _flush_seconds(scenario) * (
            offered.bytes / offered.seconds
        )
        kept_up = offered.unsent == 0 and growth <= allowed
        print(
            f"  {rate or 'closed loop'} requests/s: "
            f"{offered.events / offered.seconds:,.0f} events/s, "
            f"log grew by {growth / 1e6:,.0f} MB of {offered.bytes / 1e6:,.0f} MB: "
            f"{'kept up' if kept_up else 'too much'}"
        )
        return offered, kept_up

    if smoke:
        offered, _ = attempt(50, scenario.seconds)
        return _rates(offered), acknowledged
    ceiling, _ = attempt(None, TRY_SECONDS)
    low, high = 0, int(ceiling.requests / ceiling.seconds)
    for _ in range(SEARCH_STEPS):
        rate = (low + high) // 2
        _, kept_up = attempt(rate, TRY_SECONDS)
        low, high = (rate, high) if kept_up else (low, rate)
    held = False
    offered = ceiling
    while low > 0 and not held:
        offered, held = attempt(low, scenario.seconds)
        if not held:
            low = int(low * 0.95)
    if not held:
        message = f"{scenario.name}: no rate was kept up"
        raise SystemExit(message)
    return _rates(offered), acknowledged


def _settle(server: Penstock) -> None:
    """Wait until everything acknowledged is in the table, so that tries do not meet."""
    began = time.monotonic()
    while server.backlog_bytes() > 0 and time.monotonic() - began < SETTLE_SECONDS:
        time.sleep(0.5)


def _flush_seconds(scenario: Scenario) -> float:
    return float(scenario.environment.get("PENSTOCK_FLUSH_INTERVAL_SECONDS", "5"))
