"""Runs `penstock-load` on the core that the server does not have."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.scenario import Scenario
from harness.server import ROOT, cpu_seconds

LOAD_CORE = "1"
# Making the compressed bodies of the largest pool takes about 20 s on two cores.
PREPARE_SECONDS = 300
DRAIN_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What one run of the load saw, and what the server used meanwhile."""

    requests: int
    events: int
    bytes: int
    seconds: float
    unsent: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    errors: dict[str, int]
    server_cpu_seconds: float
    load_cpu_seconds: float


def build() -> Path:
    """Build the load generator and give its path."""
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    subprocess.run(
        [*command, "-p", "penstock-bench", "--bin", "penstock-load"], cwd=ROOT, check=True
    )
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "penstock-load"


def offer(
    program: Path,
    scenario: Scenario,
    target: str,
    server_pid: int,
    *,
    seconds: float,
    id_space: int,
    rate: int | None = None,
) -> Offered:
    """Run the load once.

    Raises:
        SystemExit: A request failed: a benchmark of a server that refuses measures nothing.
    """
    command = [
        str(program), "--handshake", "--core", LOAD_CORE, "--target", target,
        "--protocol", scenario.protocol, "--events", str(scenario.events),
        "--connections", str(scenario.connections), "--streams", str(scenario.streams),
        "--seconds", str(seconds), "--id-space", str(id_space), "--seed", str(id_space + 1),
    ]  # fmt: skip
    if scenario.gzip:
        # A short run needs fewer; each body is sent once.
        share = min(1.0, seconds / scenario.seconds)
        command += ["--gzip", "--pool", str(max(1000, int(scenario.pool * share)))]
    if rate is not None:
        command += ["--rate", str(rate)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.readline() != "prepared\n":
            message = f"the load did not start: {' '.join(command)}"
            raise SystemExit(message)
        before, load_before = cpu_seconds(server_pid), cpu_seconds(child.pid)
        child.stdin.write("go\n")
        child.stdin.flush()
        line = child.stdout.readline()
        after = cpu_seconds(server_pid)
        # A zombie's times can still be read; None: somebody took them first.
        load_after = cpu_seconds(child.pid)
        child.wait(timeout=PREPARE_SECONDS + DRAIN_SECONDS)
    if not line:
        message = f"the load reported nothing: {' '.join(command)}"
        raise SystemExit(message)
    offered = Offered(
        **json.loads(line),
        server_cpu_seconds=after - before,
        load_cpu_seconds=load_after - load_before,
    )
    if offered.errors:
        message = f"{scenario.name}: requests failed: {offered.errors}"
        raise SystemExit(message)
    return offered
