"""Servers that end at a crash point of the core's list (`rust_core/disk/src/crash.rs`)."""

import signal
import subprocess
import time

import pytest

from conftest import StartServer
from durability.load import Clients
from support.server import RunningServer, ServerDidNotStartError

# Each point is passed within a second or two of load; a busy machine may need many times that.
CRASH_SECONDS = 40.0


def crash_at(point: str, nth: int = 1) -> dict[str, str]:
    """Give the setting that ends a server when it passes a point for the nth time."""
    return {"crash_at": f"{point}:{nth}"}


def wait_for_crash(server: RunningServer, point: str) -> None:
    """Wait until a server has ended itself at a point."""
    try:
        code = server.process.wait(CRASH_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{point} was not passed\n{server.log()}")
    assert code == -signal.SIGKILL, server.log()
    assert _line(point) in server.log()


def wait_for_release(server: RunningServer) -> None:
    """Wait until a file of the log was let go, its ids being elsewhere by then."""
    wal = server.data_dir / "wal"
    end = time.monotonic() + CRASH_SECONDS
    first = min(wal.glob("*.wal"))
    while first.exists():
        assert time.monotonic() < end, f"no file of the log was released\n{server.log()}"
        time.sleep(0.02)


def crash_again(
    start: StartServer, clients: Clients, point: str, nth: int, **settings: object
) -> None:
    """Start a server on what is there; it ends itself at a point, under load or before."""
    clients.server_is_gone()
    try:
        server = start(**settings, **crash_at(point, nth))
    except ServerDidNotStartError as error:
        _check_start(error, point)
    else:
        clients.server_is_back(server)
        wait_for_crash(server, point)


def crash_while_starting(start: StartServer, point: str, nth: int = 1, **settings: object) -> None:
    """Start a server that ends itself at a point before it is ready."""
    with pytest.raises(ServerDidNotStartError) as failure:
        start(**settings, **crash_at(point, nth))
    _check_start(failure.value, point)


def _check_start(error: ServerDidNotStartError, point: str) -> None:
    log = str(error)
    assert f"(exit code {-signal.SIGKILL})" in log
    assert _line(point) in log


def _line(point: str) -> str:
    return f"crash point {point} passed\n"
