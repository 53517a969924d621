"""Servers under load: penstock and the peers, each on one core with a folder of its own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from harness.scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]
PENSTOCK = ROOT / ".venv" / "bin" / "penstock"
PEERS = ROOT / "bench" / "load" / "peers"
SERVER_CORE = "0"
START_SECONDS = 60
# Millions of rows are built into the table after a burst, on one core.
STOP_SECONDS = 600
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Life:
    """What a server used from its start to its exit."""

    cpu_seconds: float
    drain_seconds: float
    max_rss_mb: float


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


class _Process:
    """A child on the server's core; its rusage is taken when it ends."""

    def __init__(
        self, command: list[str], environment: dict[str, str], log: Path, *, pinned: bool = True
    ) -> None:
        pin = [shutil.which("taskset") or "taskset", "-c", SERVER_CORE] if pinned else []
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                [*pin, *command],
                env={**os.environ, **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self._log = log
        # taskset becomes the command, so this is the server itself.
        self.pid = self._child.pid

    def check_running(self) -> None:
        if self._child.poll() is not None:
            message = f"the server ended with {self._child.returncode}:\n{self.log_tail()}"
            raise SystemExit(message)

    def log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def stop(self) -> Life:
        began = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        while time.monotonic() - began < STOP_SECONDS:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._child.returncode = os.waitstatus_to_exitcode(status)
                if self._child.returncode not in {0, -signal.SIGTERM}:
                    message = f"the server ended with {self._child.returncode}:\n{self.log_tail()}"
                    raise SystemExit(message)
                return Life(
                    cpu_seconds=usage.ru_utime + usage.ru_stime,
                    drain_seconds=time.monotonic() - began,
                    max_rss_mb=usage.ru_maxrss * 1024 / 1e6,
                )
            time.sleep(0.02)
        self.kill()
        message = f"the server did not stop in {STOP_SECONDS} s:\n{self.log_tail()}"
        raise SystemExit(message)

    def kill(self) -> None:
        if self._child.returncode is None:
            self._child.kill()
            self._child.wait()


class Penstock:
    """`penstock serve` on free ports, with the scenario's settings.

    With `http_port`, that one; then it is not waited for.
    """

    def __init__(
        self, scenario: Scenario, folder: Path, *, http_port: int = 0, pinned: bool = True
    ) -> None:
        self.data = folder / "data"
        self._ready = ready = folder / "ready.json"
        ready.unlink(missing_ok=True)
        ports = {"http": http_port, "grpc": 0, "admin": 0}
        listeners = [
            word for name, port in ports.items() for word in (f"--{name}", f"127.0.0.1:{port}")
        ]
        self._process = _Process(
            [
                str(PENSTOCK),
                "serve",
                "--data-dir",
                str(self.data),
                *listeners,
                "--ready-file",
                str(ready),
            ],
            # The drain after a burst takes longer than a service manager's patience.
            {"PENSTOCK_DRAIN_TIMEOUT_SECONDS": str(STOP_SECONDS - 60), **scenario.environment},
            folder / "server.log",
            pinned=pinned,
        )
        self.pid = self._process.pid
        self._addresses: dict[str, str] = {}
        if http_port == 0:
            self.wait_until_ready()

    def check_running(self) -> None:
        self._process.check_running()

    def wait_until_ready(self) -> None:
        began = time.monotonic()
        while not self._ready.exists():
            self._process.check_running()
            if time.monotonic() - began > START_SECONDS:
                self._process.kill()
                message = f"not ready after {START_SECONDS} s:\n{self._process.log_tail()}"
                raise SystemExit(message)
            time.sleep(0.02)
        self._addresses = json.loads(self._ready.read_text())

    def target(self, protocol: str) -> str:
        return str(self._addresses[protocol])

    def backlog_bytes(self) -> int:
        """Bytes of the log that are durable and not yet in the table."""
        return int(self.metric("penstock_wal_backlog_bytes"))

    def metric(self, name: str) -> float:
        """One number of `/metrics`, without labels."""
        with urllib.request.urlopen(f"http://{self.target('admin')}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        match = re.search(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        if match is None:
            message = f"/metrics has no {name}"
            raise SystemExit(message)
        return float(match[1])

    def stop(self) -> Life:
        return self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def stored(self) -> tuple[int, int]:
        sql = "SELECT count(*) AS row_count, count(DISTINCT uuid) AS id_count FROM events"
        answer = subprocess.run(
            [str(PENSTOCK), "query", sql, "--data-dir", str(self.data), "--format", "json"],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        row = json.loads(answer.stdout)[0]
        return int(row["row_count"]), int(row["id_count"])


class Peer:
    """A service of `bench/load/peers`, in an environment made from their lock file."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self._port = free_port()
        self._process = _Process(
            [str(_peer_python()), str(PEERS / f"{scenario.server}.py")],
            {"PEER_DATA_DIR": str(self.data), "PEER_PORT": str(self._port)},
            folder / "server.log",
        )
        self.pid = self._process.pid
        began = time.monotonic()
        while not self._answers():
            self._process.check_running()
            if time.monotonic() - began > START_SECONDS:
                self._process.kill()
                message = f"not ready after {START_SECONDS} s:\n{self._process.log_tail()}"
                raise SystemExit(message)
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.target('http')}/docs", timeout=1):
                return True
        except OSError:
            return False

    def target(self, protocol: str) -> str:
        assert protocol == "http"
        return f"127.0.0.1:{self._port}"

    def stop(self) -> Life:
        return self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def stored(self) -> tuple[int, int]:
        ids = set()
        rows = 0
        with (self.data / "events.ndjson").open("rb") as lines:
            for line in lines:
                rows += 1
                # Every line begins with {"uuid":"…36 bytes…".
                ids.add(line[9:45])
        return rows, len(ids)


def start(scenario: Scenario, folder: Path) -> "Penstock | Peer":
    """Start the scenario's server with a new data directory below `folder`."""
    return Penstock(scenario, folder) if scenario.server == "penstock" else Peer(scenario, folder)


def _peer_python() -> Path:
    environment = ROOT / ".build" / "peers"
    python = environment / "bin" / "python"
    lock = PEERS / "requirements.txt"
    stamp = environment / "installed"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--no-deps",
            "-r",
            str(lock),
        ]
        subprocess.run([str(python), *install], check=True)
        stamp.write_text(lock.read_text())
    return python


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
