"""Wiring and life cycle of the service: start, main loop, shutdown, in this order below."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol, cast

from penstock import __version__
from penstock.admin.listener import admin_front
from penstock.admin.pages import AdminPages
from penstock.config import split_address
from penstock.engine import FAILED, CoreLike, Engine, open_core
from penstock.errors import InternalError, ListenError
from penstock.greeting import greeting, own_command
from penstock.logs import logger
from penstock.posthog.paths import SdkAnswers
from penstock.posthog.static_files import MAX_OPEN_FILES
from penstock.reload import LoadSettings, read_again
from penstock.scheduling import Scheduling
from penstock.starting import StartingCommitter, StartingCore
from penstock.transport.http import HttpFront, capture_front
from penstock.transport.http_limits import HttpLimits

if TYPE_CHECKING:
    from pathlib import Path

    from penstock import _core
    from penstock.config import Settings

_log = logger("app")

# Files that are no connection: log, dedup, tables being written, libraries.
_OTHER_FILES: Final = 1024
# How often the core is asked for what it has to log, and whether it met a bug, and how busy the
# process is looked at: soon enough for people and for whoever restarts us, costs nothing.
_CORE_LOG_SECONDS: Final = 0.25
# How often a shutdown looks whether it is done.
_POLL_SECONDS: Final = 0.01
# A cut asked for while another is being committed may be that other one: ask again.
_FLUSH_AGAIN_SECONDS: Final = 0.5
# Of the drain timeout, for what follows the drain: the commit under way, the core's last syncs.
_CLOSE_SECONDS: Final = 2.0
# After that: for last answers to reach their clients, and for those in mid-request to be told.
_GRACE_SECONDS: Final = 1.0
# Most of a shorter timeout stays for the drain.
_MAX_SHARE: Final = 0.1


class CommitterLike(Protocol):
    """What the life cycle needs of the table committer."""

    def open(self) -> Mapping[str, Mapping[str, int]]:
        """Open or create the tables; give table to lane to committed position."""

    def start(self) -> None:
        """Start the thread that commits cuts."""

    def stop(self, timeout_seconds: float) -> None:
        """Stop it, after the commit that it is at."""

    @property
    def held(self) -> str | None:
        """Code of why no commits are made."""

    @property
    def failing(self) -> str | None:
        """What the newest commit fails with."""

    def metrics(self) -> str:
        """Give Prometheus text."""


class GrpcLike(Protocol):
    """What the life cycle needs of the gRPC front."""

    async def start(self) -> str:
        """Listen, and give the real address."""

    async def tell_health(self) -> None:
        """Tell health checks how things are now."""

    def begin_drain(self) -> None:
        """Tell new calls, and health checks, to go elsewhere."""

    async def stop(self, grace: float) -> None:
        """Stop listening and end the calls."""

    @property
    def calls(self) -> int:
        """Appends under way."""

    def request_counts(self) -> dict[str, int]:
        """Answered calls by the name of their status."""


class Parts:
    """How the app makes what it wires; tests put in their own."""

    def open_core(self, settings: Settings) -> CoreLike:
        """Open the core."""
        return open_core(settings)

    def endpoints(self) -> list[tuple[str, int]]:
        """List the endpoints that the core decodes."""
        from penstock import _core  # noqa: PLC0415 - tests run without it

        return _core.endpoints()

    def committer(self, core: CoreLike, settings: Settings) -> CommitterLike:
        """Make the table committer."""
        from penstock.table.committer import Committer  # noqa: PLC0415 - slow to import

        committer: CommitterLike = Committer(cast("_core.Engine", core), settings.data_dir)
        return committer

    def sdk_answers(self, settings: Settings) -> SdkAnswers:
        """Make what answers SDKs besides capture."""
        from penstock import _core  # noqa: PLC0415 - tests run without it

        return SdkAnswers(settings, _core.token_of)

    def grpc(self, engine: Engine, settings: Settings) -> GrpcLike:
        """Make the gRPC front."""
        from penstock.transport.grpc import GrpcFront  # noqa: PLC0415 - slow to import

        front: GrpcLike = GrpcFront(engine, settings)
        return front


class App:
    """One running service.

    Attributes:
        addresses: Real addresses by listener, once started.
        failed: Whether the core met a bug, so that the process must end.
    """

    def __init__(
        self, settings: Settings, parts: Parts | None = None, load: LoadSettings | None = None
    ) -> None:
        self._settings = settings
        self._load = load or (lambda: settings)
        self._parts = parts or Parts()
        self._stop_requested = asyncio.Event()
        self._reload_requested = asyncio.Event()
        self._reload_task: asyncio.Task[None] | None = None
        self._sdk_answers: SdkAnswers | None = None
        self._engine: Engine | None = None
        self._committer: CommitterLike | None = None
        self._http: HttpFront | None = None
        self._grpc: GrpcLike | None = None
        self._admin: HttpFront | None = None
        self._core_log_task: asyncio.Task[None] | None = None
        self._ready = False
        self.addresses: dict[str, str] = {}
        self.failed = False

    async def start(self) -> None:
        """Listen, open the data directory, recover. Until that is done, requests get 503.

        Raises:
            DataDirectoryError: Unusable, or in use by another process.
            ListenError: An address can't be listened on.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        allow_open_files(settings.max_connections + MAX_OPEN_FILES + _OTHER_FILES)
        remove_ready_file(settings.ready_file)
        self._engine = engine = Engine(StartingCore())
        # On a thread: recovery may take long, and signals and clients are to be heard meanwhile.
        opening = loop.run_in_executor(None, self._open)
        try:
            pages = await self._listen(engine)
        finally:
            # Also if there is no port to listen on: a directory in use says more, and is closed.
            core, committer, committed = await opening
            engine.adopt(core)
        pages.committer = self._committer = committer
        engine.start_notifications(loop)
        core.start(committed)
        committer.start()
        if self._grpc is not None:
            await self._grpc.tell_health()
        self._core_log_task = asyncio.create_task(self._watch_core())
        self._reload_task = asyncio.create_task(self._reload_when_asked())
        self._warn_of_open_door()
        # What start-up made lives as long as the process: the collector need not look at it again.
        gc.freeze()
        self._ready = True
        _log.info("ready", **self.addresses, pid=os.getpid(), version=__version__)
        if settings.ready_file is not None:
            write_ready_file(settings.ready_file, self.addresses)

    def _open(self) -> tuple[CoreLike, CommitterLike, Mapping[str, Mapping[str, int]]]:
        core = self._parts.open_core(self._settings)
        try:
            committer = self._parts.committer(core, self._settings)
            return core, committer, committer.open()
        except BaseException:
            core.close()
            raise

    async def _listen(self, engine: Engine) -> AdminPages:
        settings = self._settings
        self._sdk_answers = self._parts.sdk_answers(settings)
        self._http = capture_front(
            engine,
            HttpLimits.of(settings),
            self._parts.endpoints(),
            prefixes=settings.prefix,
            find_call=self._sdk_answers.find,
        )
        self.addresses["http"] = await self._http.start(settings.http)
        self._grpc = self._parts.grpc(engine, settings)
        try:
            self.addresses["grpc"] = await self._grpc.start()
        except (RuntimeError, OSError) as error:
            raise ListenError("grpc", settings.grpc, str(error)) from error
        pages = AdminPages(engine, self._http, self._grpc, StartingCommitter())
        pages.addresses = self.addresses
        self._admin = admin_front(pages)
        self.addresses["admin"] = await self._admin.start(settings.admin)
        return pages

    async def run(self) -> None:
        """Serve until `request_stop`, or until the core has failed."""
        await self._stop_requested.wait()

    def request_stop(self) -> None:
        """Begin the shutdown."""
        self._stop_requested.set()

    def request_reload(self) -> None:
        """Read the settings again, once the service has started; what may change does so."""
        self._reload_requested.set()

    async def shutdown(self) -> None:
        """Finish what is in flight, sync, flush, commit and close, within the drain timeout.

        Until the end, new requests get 503 with Retry-After on an open port. What is not in the
        table by then stays in the log and gets there after the next start: nothing is lost.
        """
        loop = asyncio.get_running_loop()
        timeout = self._settings.drain_timeout_seconds
        deadline = loop.time() + timeout
        grace = min(_GRACE_SECONDS, timeout * _MAX_SHARE)
        remove_ready_file(self._settings.ready_file)
        if self._http is not None:
            self._http.begin_drain()
        if self._grpc is not None:
            self._grpc.begin_drain()
        if self._engine is not None:
            self._engine.core.drain_and_stop_admission()
            if self._ready and not self.failed:
                reserve = grace + min(_CLOSE_SECONDS, timeout * _MAX_SHARE)
                await self._drain(self._engine, deadline - reserve)
        if self._committer is not None:
            remaining = max(0.0, deadline - grace - loop.time())
            await loop.run_in_executor(None, self._committer.stop, remaining)
        for task in (self._core_log_task, self._reload_task):
            if task is not None:
                task.cancel()
        if self._engine is not None:
            await self._close(self._engine)
        _log.info("closed")
        # Last: until here they tell clients to come back, and a closed port loses batches.
        fronts = (self._http, self._grpc, self._admin)
        await asyncio.gather(*(front.stop(grace) for front in fronts if front is not None))

    async def _close(self, engine: Engine) -> None:
        engine.stop_notifications()
        # On a thread, so that a second signal is heard while the log is being closed.
        await asyncio.get_running_loop().run_in_executor(None, engine.close)
        # What was still in flight at the deadline got its result by the close.
        engine.deliver()
        log_core_events(engine.core)

    async def _drain(self, engine: Engine, deadline: float) -> None:
        """Wait until everything taken is answered and in the tables, or for the deadline."""
        loop = asyncio.get_running_loop()
        core = engine.core
        _log.info("draining", in_flight=core.in_flight, backlog_records=core.backlog[0])
        flush_at = 0.0
        while loop.time() < deadline and not self.failed:
            # While commits are held, a flush changes nothing: the log keeps what is behind.
            behind = core.backlog[0] > 0 and self._held is None
            if not behind and core.in_flight == 0:
                break
            # Also with requests in flight: some of them may wait for the table.
            if behind and loop.time() >= flush_at:
                engine.flush()
                flush_at = loop.time() + _FLUSH_AGAIN_SECONDS
            await asyncio.sleep(_POLL_SECONDS)
        records, size = core.backlog
        if records or core.in_flight:
            _log.warning(
                "drain_incomplete",
                in_flight=core.in_flight,
                backlog_records=records,
                backlog_bytes=size,
            )
        else:
            _log.info("drained")

    @property
    def _held(self) -> str | None:
        return None if self._committer is None else self._committer.held

    def _warn_of_open_door(self) -> None:
        if self._settings.projects:
            return
        for listener in ("http", "grpc"):
            if not is_loopback(self.addresses[listener]):
                _log.warning(
                    "open_to_any_token",
                    listener=listener,
                    address=self.addresses[listener],
                    advice="name projects in the configuration to refuse unknown tokens",
                )

    async def _reload_when_asked(self) -> None:
        """Take over settings that may change, each time that it is asked for."""
        assert self._engine is not None  # noqa: S101 - started after the engine
        assert self._sdk_answers is not None  # noqa: S101 - as above
        loop = asyncio.get_running_loop()
        while True:
            await self._reload_requested.wait()
            # Before the file is read: who changes it meanwhile asks again.
            self._reload_requested.clear()
            # On a thread: the file may be on a network that hangs.
            try:
                settings = await loop.run_in_executor(None, read_again, self._settings, self._load)
                if settings is None:
                    continue
                # Both between two requests, without a wait: none sees one without the other.
                self._engine.replace_projects(settings)
                self._sdk_answers.replace_projects(settings)
            except Exception:  # noqa: BLE001 - a bug: the next time it is asked for may be better
                _log.exception("reload_failed")
                continue
            self._settings = settings
            _log.info("reloaded", projects=len(settings.projects))
            self._warn_of_open_door()

    async def _watch_core(self) -> None:
        """Log what the core has to say, and end the service once the core has met a bug.

        And let the threads that requests wait for run at once, as long as that costs nothing.
        """
        assert self._engine is not None  # noqa: S101 - started after the engine
        core = self._engine.core
        scheduling = Scheduling()
        while True:
            scheduling.look()
            log_core_events(core)
            state, reason = core.state()
            if state == FAILED and not self.failed:
                self.failed = True
                _log.error("core_failed", reason=reason, advice="the process ends; start it again")
                self.request_stop()
            await asyncio.sleep(_CORE_LOG_SECONDS)


def allow_open_files(wanted: int) -> None:
    """Raise our own limit of open files, which shells set to 1024, as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    allowed = wanted if hard == unlimited else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning("open_files_limited", allowed=allowed, wanted=wanted)


def log_core_events(core: CoreLike) -> None:
    """Log what the core has to say."""
    core_log = logger("core")
    for level, event, fields in core.log_events():
        core_log.at(level, event, dict(fields))


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach an address."""
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def write_ready_file(path: Path, addresses: Mapping[str, str]) -> None:
    """Write the addresses in one step, so that a reader never sees half a file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps({**addresses, "pid": os.getpid()}) + "\n", encoding="utf-8")
    partial.replace(path)


def remove_ready_file(path: Path | None) -> None:
    """Remove the file of an earlier run: whoever waits for it waits for this one."""
    if path is not None:
        path.unlink(missing_ok=True)


async def serve(
    settings: Settings,
    *,
    parts: Parts | None = None,
    load: LoadSettings | None = None,
    exit_at_once: Callable[[int], object] = os._exit,
) -> None:
    """Run the service until SIGTERM or SIGINT; a second signal ends the process with exit 1.

    SIGHUP reads the settings again by `load`.

    Raises:
        InternalError: The core met a bug, and the service stopped by itself.
    """
    app = App(settings, parts, load)
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        if app_stops:
            _log.warning("stopped_at_once", signal=name)
            exit_at_once(1)
            return
        app_stops.append(name)
        _log.info("stopping", signal=name)
        app.request_stop()

    app_stops: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    loop.add_signal_handler(signal.SIGHUP, app.request_reload)
    try:
        await app.start()
        if sys.stdout.isatty():
            projects = list(settings.projects.values())
            token = projects[0].tokens[0] if projects else None
            words = greeting(app.addresses, settings.data_dir, token, command=own_command())
            sys.stdout.write(words)
            sys.stdout.flush()
        await app.run()
    finally:
        # A core that has failed may not even close; its process is to end all the same.
        limit = settings.drain_timeout_seconds + _GRACE_SECONDS if app.failed else None
        try:
            await asyncio.wait_for(app.shutdown(), limit)
        except TimeoutError:
            _log.error("shutdown_stuck", waited_seconds=limit)
            exit_at_once(1)
    if app.failed:
        raise InternalError("the core failed: its log lines say where")
    _log.info("stopped")
