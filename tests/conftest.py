"""Fixtures that all folders share. A test starts a server only by asking for one of them."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from support.server import RunningServer, start_server

REPOSITORY = Path(__file__).resolve().parent.parent

StartServer = Callable[..., RunningServer]


class _Servers:
    """Starts servers below one folder and stops those that a test left running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.started: list[RunningServer] = []

    def start(
        self,
        data_dir: Path | None = None,
        *,
        args: tuple[str, ...] = (),
        launcher: tuple[str, ...] = (),
        **settings: object,
    ) -> RunningServer:
        work_dir = self._folder / f"server-{len(self.started)}"
        server = start_server(
            data_dir or self._folder / "data", work_dir, args=args, launcher=launcher, **settings
        )
        self.started.append(server)
        return server

    def stop(self) -> None:
        for server in self.started:
            if server.process.poll() is None:
                code = server.stop()
                assert code == 0, f"exit code {code}\n{server.log()}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers with settings of the test's own: `start(flush_interval_seconds=1)`.

    All share the folder `tmp_path / "data"` unless told otherwise, so a second call after `stop()`
    or `kill()` is a restart. What still runs at the end must stop cleanly.
    """
    servers = _Servers(tmp_path)
    yield servers.start
    servers.stop()


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with default settings for the whole module: use tokens and ids of your own."""
    servers = _Servers(tmp_path_factory.mktemp("running-server"))
    yield servers.start()
    servers.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the log of a test's servers when it failed."""
    report = yield
    if report.failed and call.when != "setup":
        for value in getattr(item, "funcargs", {}).values():
            for server in _servers_of(value):
                report.sections.append((f"log of penstock {server.pid}", server.log()))
    return report


def _servers_of(value: object) -> list[RunningServer]:
    if isinstance(value, RunningServer):
        return [value]
    owner = getattr(value, "__self__", None)
    return owner.started if isinstance(owner, _Servers) else []
