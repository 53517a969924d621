"""A real `penstock serve` in a process of its own, on free ports and a folder of its own."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.http import Headers, Response, request_bytes, send_raw

Address = tuple[str, int]

# Starting takes about a second; a busy machine with two cores may need many times that.
TEST_RESERVE_BYTES = 4 << 20
START_SECONDS = 45.0
# The default drain timeout is 25 s; past it the exit must have happened.
STOP_SECONDS = 40.0
POLL_SECONDS = 0.02
# Enough of a log to see what went wrong, little enough to read.
LOG_TAIL_BYTES = 16_384


class ServerDidNotStartError(AssertionError):
    """The process ended, or no ready file came in time; the message holds its log."""


@dataclass
class RunningServer:
    """One server process, ready to take requests.

    `query` runs `penstock query` in another process, as an outsider would.
    """

    process: subprocess.Popen[bytes]
    data_dir: Path
    log_path: Path
    http: Address
    grpc: Address
    admin: Address
    environment: dict[str, str] = field(repr=False)
    launcher: tuple[str, ...] = ()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def http_url(self) -> str:
        return f"http://{address_text(self.http)}"

    @property
    def grpc_target(self) -> str:
        return address_text(self.grpc)

    @property
    def admin_url(self) -> str:
        return f"http://{address_text(self.admin)}"

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Headers = (),
        address: Address | None = None,
    ) -> Response:
        """Send one request on a connection of its own; host, length and close are added."""
        target_address = address or self.http
        fixed = [("Host", address_text(target_address)), ("Connection", "close")]
        length = [("Content-Length", str(len(body)))] if body or method == "POST" else []
        message = request_bytes(method, target, [*fixed, *length, *headers], body)
        return send_raw(target_address, message, head=method == "HEAD")

    def post_json(self, target: str, value: object, headers: Headers = ()) -> Response:
        """POST `value` as JSON to the ingest listener."""
        content_type = ("Content-Type", "application/json")
        return self.request(
            "POST", target, body=json.dumps(value).encode(), headers=[content_type, *headers]
        )

    def get_admin(self, target: str) -> Response:
        """GET from the admin listener: `/healthz`, `/readyz`, `/metrics`."""
        return self.request("GET", target, address=self.admin)

    def metric(self, series: str) -> float:
        """Read one series of `/metrics`, by its name and labels; 0 while it is not there."""
        for line in self.get_admin("/metrics").body.decode().splitlines():
            if line.startswith(f"{series} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Run `penstock query --format json` on the data directory and return its rows."""
        return run_query(self.data_dir, sql, self.environment, self.launcher)

    def forget_peak_memory(self) -> None:
        """Start `peak_memory_bytes` anew (`man 5 proc`: clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory that the process has had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) << 10

    def log(self) -> str:
        """Return the end of what the process wrote to stdout and stderr."""
        return self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def stop(self) -> int:
        """Ask it to stop (SIGTERM), wait, and return the exit code; again: the same code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            message = f"the server did not stop in {STOP_SECONDS:g} s\n{self.log()}"
            raise AssertionError(message) from None

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL)."""
        self.process.kill()
        self.process.wait()


def run_query(
    data_dir: Path, sql: str, environment: dict[str, str], launcher: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Run `penstock query` on `data_dir`, with or without a running server."""
    command = [sys.executable, "-m", "penstock", "query", sql, "--data-dir", str(data_dir)]
    done = subprocess.run(
        [*launcher, *command, "--format", "json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=STOP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def start_server(
    data_dir: Path,
    work_dir: Path,
    *,
    args: tuple[str, ...] = (),
    launcher: tuple[str, ...] = (),
    **settings: object,
) -> RunningServer:
    """Start `penstock serve` and wait until it is ready.

    `launcher` is put before the command: a program that becomes it, as `nsenter` does.

    `settings` go by environment: `flush_interval_seconds=1` is `PENSTOCK_FLUSH_INTERVAL_SECONDS=1`.
    `work_dir` takes its log and ready file.

    Raises:
        ServerDidNotStartError: With the log of the process, which has ended.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    ready_file = work_dir / "ready.json"
    ready_file.unlink(missing_ok=True)
    log_path = work_dir / "serve.log"
    # Hundreds of tests start servers; each would reserve half a gigabyte of the disk.
    environment = clean_environment(**{"disk_reserve_bytes": TEST_RESERVE_BYTES, **settings})
    command = [sys.executable, "-m", "penstock", "serve", "--data-dir", str(data_dir)]
    for listener in ("http", "grpc", "admin"):
        command += [f"--{listener}", "127.0.0.1:0"]
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [*launcher, *command, "--ready-file", str(ready_file), *args],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    _wait_for(process, ready_file, log_path)
    ready = json.loads(ready_file.read_bytes())
    assert ready["pid"] == process.pid
    addresses = {name: _address(ready[name]) for name in ("http", "grpc", "admin")}
    return RunningServer(
        process, data_dir, log_path, environment=environment, launcher=launcher, **addresses
    )


def clean_environment(**settings: object) -> dict[str, str]:
    """Return our environment without any `PENSTOCK_*` but `settings`; test features allowed."""
    environment = {key: value for key, value in os.environ.items() if key[:9] != "PENSTOCK_"}
    environment["PENSTOCK_ALLOW_TESTING"] = "1"
    for name, value in settings.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        environment[f"PENSTOCK_{name.upper()}"] = text
    return environment


def _wait_for(process: subprocess.Popen[bytes], ready_file: Path, log_path: Path) -> None:
    for _ in range(int(START_SECONDS / POLL_SECONDS)):
        if ready_file.exists():
            return
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
    ended = process.poll()
    if ended is None:
        process.kill()
        process.wait()
    log = log_path.read_text(errors="replace")
    message = f"the server did not become ready (exit code {ended})\n{log}"
    raise ServerDidNotStartError(message)


def address_text(address: Address) -> str:
    """Write an address as URLs and gRPC have it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
