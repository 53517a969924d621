"""Start, ready file, drain and stop, on real sockets with a core without storage."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from penstock.app import App, Parts, allow_open_files, is_loopback, serve
from penstock.config import Project, Settings
from penstock.errors import ConfigError, DataDirectoryError, InternalError, ListenError
from penstock.greeting import greeting, own_command
from penstock.posthog.paths import SdkAnswers
from support.fake_core import ENDPOINTS, FakeCore
from unit.transport.harness import parse_answers, post


class FakeCommitter:
    def __init__(self, calls):
        self.calls = calls
        self.held: str | None = None
        self.failing: str | None = None

    def metrics(self):
        return "penstock_table_cuts_total 2\n"

    def open(self):
        self.calls.append("committer.open")
        return {"events": {}}

    def start(self):
        self.calls.append("committer.start")

    def stop(self, _timeout_seconds):
        self.calls.append("committer.stop")


class FakeGrpc:
    calls = 7

    def __init__(self):
        self.log: list[str] = []

    async def start(self):
        return "127.0.0.1:1"

    async def tell_health(self):
        self.log.append("tell_health")

    def begin_drain(self):
        self.log.append("begin_drain")

    async def stop(self, grace):
        assert grace >= 0
        self.log.append("stop")

    def request_counts(self):
        return {"OK": 4, "UNAVAILABLE": 1}


class FakeParts(Parts):
    def __init__(self):
        self.core = FakeCore(answer_at_once=True)
        self.front = FakeGrpc()
        self.tables = FakeCommitter(self.core.calls)

    def open_core(self, _settings):
        return self.core

    def endpoints(self):
        return ENDPOINTS

    def committer(self, _core, _settings):
        return self.tables

    def sdk_answers(self, settings):
        return SdkAnswers(settings, lambda *_: "phc_asked")

    def grpc(self, _engine, _settings):
        return self.front


@pytest.fixture
def parts():
    return FakeParts()


@pytest.fixture
def settings(tmp_path):
    return Settings(
        http="127.0.0.1:0",
        admin="127.0.0.1:0",
        ready_file=tmp_path / "ready.json",
        drain_timeout_seconds=0.2,
    )


@contextlib.asynccontextmanager
async def started(settings, parts):
    app = App(settings, parts)
    await app.start()
    try:
        yield app
    finally:
        await app.shutdown()


async def exchange(address, request):
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        writer.write_eof()
        return parse_answers(await reader.read())
    finally:
        writer.close()


async def until(condition):
    """Wait for what another task, a signal or the kernel brings about."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.001)


def get(path):
    return f"GET {path} HTTP/1.1\r\n\r\n".encode()


async def test_an_event_is_answered_and_pages_are_there(settings, parts):
    async with started(settings, parts) as app:
        assert [status for status, _, _ in await exchange(app.addresses["http"], post() * 3)] == [
            200
        ] * 3
        pages = get("/healthz") + get("/readyz") + get("/metrics") + get("/")
        healthz, readyz, metrics, status = await exchange(app.addresses["admin"], pages)
    assert healthz[::2] == (200, b"ok\nready\n")
    assert readyz[::2] == (200, b"ready\n")
    assert b"penstock_engine_events_total 3\n" in metrics[2]
    assert b'penstock_http_requests_total{route="batch",status="200"} 3\n' in metrics[2]
    for line in (
        b"penstock_table_cuts_total 2\n",
        b'penstock_grpc_requests_total{status="UNAVAILABLE"} 1\n',
        b"penstock_grpc_calls 7\n",
    ):
        assert line in metrics[2]
    assert b"\n\n" not in metrics[2]
    assert metrics[1]["content-type"].startswith("text/plain; version=0.0.4")
    assert app.addresses["http"].encode() in status[2]


async def test_health_says_what_it_suffers_from_and_fails_only_with_the_core(settings, parts):
    async with started(settings, parts) as app:

        async def page(path):
            ((status, _, body),) = await exchange(app.addresses["admin"], get(path))
            return status, body

        parts.core.current_state = ("degraded", "disk_full")
        parts.tables.held, parts.tables.failing = "table_behind_note", "CommitFailedError"
        assert await page("/healthz") == (
            200,
            b"ok\ndegraded: disk_full\ncommits held: table_behind_note\n"
            b"commits failing: CommitFailedError\n",
        )
        assert (await page("/readyz"))[0] == 503
        parts.core.current_state = ("failed", "storage_failed")
        status, body = await page("/healthz")
        assert (status, body.splitlines()[:2]) == (500, [b"failed", b"failed: storage_failed"])
        assert (await page("/readyz"))[0] == 503


async def test_a_core_that_met_a_bug_ends_the_service(settings, parts, caplog):
    # What it left half done can't be reasoned about: only a restart helps, and the log has it all.
    settings = Settings(http=settings.http, admin=settings.admin, drain_timeout_seconds=60)
    parts.core.answer_at_once = False
    parts.core.backlog = (3, 100)
    parts.core.in_flight = 1
    parts.core.current_state = ("failed", "storage_failed")
    parts.core.drain_and_stop_admission = lambda: None
    with pytest.raises(InternalError, match="the core failed"):
        await asyncio.wait_for(serve(settings, parts=parts), 10)
    assert "core_failed" in caplog.text
    assert caplog.text.count("core_failed") == 1
    assert "flush" not in parts.core.calls
    assert parts.core.calls[-1] == "close"


async def test_a_failed_core_that_does_not_even_close_is_left(settings, parts, monkeypatch):
    exits: list[int] = []
    stuck = threading.Event()
    monkeypatch.setattr("penstock.app._GRACE_SECONDS", 0.05)
    parts.core.current_state = ("failed", "storage_failed")
    parts.core.close = stuck.wait

    def leave(code):
        exits.append(code)
        stuck.set()

    with pytest.raises(InternalError):
        await serve(settings, parts=parts, exit_at_once=leave)
    assert exits == [1]


async def test_order_of_start_and_stop(settings, parts):
    async with started(settings, parts):
        pass
    assert parts.front.log == ["tell_health", "begin_drain", "stop"]
    assert parts.core.calls == [
        "committer.open",
        "start",
        "committer.start",
        "drain_and_stop_admission",
        "committer.stop",
        "close",
    ]


async def test_requests_get_503_until_the_core_is_open(settings, parts):
    may_open = threading.Event()

    def open_core(_settings):
        assert may_open.wait(10)
        return parts.core

    parts.open_core = open_core
    app = App(settings, parts)
    starting = asyncio.ensure_future(app.start())
    await until(lambda: "admin" in app.addresses)
    for _ in range(2):
        ((status, headers, body),) = await exchange(app.addresses["http"], post())
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"server is starting, please retry" in body
    pages = get("/healthz") + get("/readyz") + get("/metrics") + get("/")
    answers = await exchange(app.addresses["admin"], pages)
    assert [status for status, _, _ in answers] == [200, 503, 200, 200]
    assert answers[1][2] == b"not ready: starting\n"
    ((status, _, body),) = await exchange(app.addresses["http"], get("/_readiness"))
    assert (status, body) == (503, b"starting")
    assert not settings.ready_file.exists()
    assert not parts.core.submitted
    may_open.set()
    await starting
    ((status, _, _),) = await exchange(app.addresses["http"], post())
    assert status == 200
    await app.shutdown()


async def test_a_directory_in_use_says_more_than_a_port_in_use(parts):
    # Who starts it twice is told of the first one, not that ports are busy.
    def open_core(_settings):
        raise DataDirectoryError("data_directory_in_use", "in use by another process")

    parts.open_core = open_core
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(http=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(DataDirectoryError):
            await serve(settings, parts=parts)


async def test_ready_file_has_the_real_addresses_and_goes_with_the_service(settings, parts):
    settings.ready_file.write_text("of an earlier run")
    async with started(settings, parts) as app:
        ready = json.loads(settings.ready_file.read_text())
        assert ready == {**app.addresses, "pid": os.getpid()}
        assert set(app.addresses) == {"http", "grpc", "admin"}
        assert not app.addresses["http"].endswith(":0")
        assert [path.name for path in settings.ready_file.parent.iterdir()] == ["ready.json"]
    assert not settings.ready_file.exists()


async def test_a_port_in_use_is_named_and_what_was_opened_is_closed(tmp_path, parts):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = Settings(http=address, ready_file=tmp_path / "ready")
        parts.core.backlog = (3, 100)
        with pytest.raises(ListenError, match=address):
            await serve(settings, parts=parts)
    # Nothing was taken, so nothing is waited for; the log keeps what it had.
    assert "flush" not in parts.core.calls
    assert parts.core.calls[-1] == "close"
    assert not (tmp_path / "ready").exists()


async def test_a_grpc_port_in_use_is_named(parts):
    class TakenGrpc(FakeGrpc):
        async def start(self):
            raise RuntimeError("failed to bind")

    parts.grpc = lambda _engine, _settings: TakenGrpc()
    settings = Settings(http="127.0.0.1:0", grpc="127.0.0.1:9")
    with pytest.raises(ListenError, match=r"cannot listen on 127\.0\.0\.1:9 for grpc"):
        await serve(settings, parts=parts)


async def test_a_drain_flushes_what_is_behind(settings, parts):
    parts.core.backlog = (3, 100)
    async with started(settings, parts):
        pass
    assert "flush" in parts.core.calls
    assert parts.core.calls.index("flush") < parts.core.calls.index("committer.stop")


async def test_a_drain_does_not_wait_for_commits_that_are_held(settings, parts, caplog):
    parts.core.backlog = (3, 100)
    parts.tables.held = "table_behind_note"
    settings = Settings(http=settings.http, admin=settings.admin, drain_timeout_seconds=60)
    with caplog.at_level(logging.WARNING, "penstock"):
        async with asyncio.timeout(10):
            async with started(settings, parts):
                pass
    assert "flush" not in parts.core.calls
    assert "drain_incomplete" in caplog.text


async def test_a_drain_flushes_while_requests_still_wait_for_the_table(settings, parts):
    # At `ack = "table"` they would wait for a flush, and the flush for them.
    parts.core.answer_at_once = False
    parts.core.backlog = (3, 100)
    parts.core.in_flight = 1

    def flush():
        parts.core.calls.append("flush")
        parts.core.backlog, parts.core.in_flight = (0, 0), 0

    parts.core.flush = flush
    settings = Settings(http=settings.http, admin=settings.admin, drain_timeout_seconds=60)
    async with asyncio.timeout(10):
        async with started(settings, parts):
            pass
    assert parts.core.calls.count("flush") == 1


async def test_a_shutdown_keeps_time_for_closing(parts):
    # It once took the drain timeout, and then a second for each listener and the log.
    times: list[float] = []
    loop = asyncio.get_running_loop()
    parts.core.backlog = (3, 100)
    parts.core.flush = lambda: None
    parts.tables.stop = times.append
    app = App(Settings(http="127.0.0.1:0", admin="127.0.0.1:0", drain_timeout_seconds=2), parts)
    await app.start()
    reader, writer = await asyncio.open_connection(*app.addresses["http"].split(":"))
    writer.write(post()[:-1])
    began = loop.time()
    await app.shutdown()
    assert loop.time() - began < 2.1
    assert 0 < times[0] < 0.5
    ((status, headers, _),) = parse_answers(await reader.read())
    assert (status, headers["retry-after"], headers["connection"]) == (503, "2", "close")
    writer.close()


async def test_a_drain_ends_in_time_and_says_what_is_left(settings, parts, caplog):
    parts.core.backlog = (3, 100)
    parts.core.flush = lambda: None
    with caplog.at_level(logging.WARNING, "penstock"):
        async with started(settings, parts):
            pass
    assert "drain_incomplete" in caplog.text
    assert parts.core.calls[-1] == "close"


async def test_new_requests_get_503_on_an_open_port_while_old_ones_finish(settings, parts):
    parts.core.answer_at_once = False
    app = App(Settings(http=settings.http, admin=settings.admin, drain_timeout_seconds=10), parts)
    await app.start()
    first = asyncio.ensure_future(exchange(app.addresses["http"], post()))
    await until(lambda: parts.core.submitted)
    stopping = asyncio.ensure_future(app.shutdown())
    await asyncio.sleep(0)
    ((status, headers, _),) = await exchange(app.addresses["http"], post())
    assert (status, headers["retry-after"], headers["connection"]) == (503, "2", "close")
    ((ready, _, _),) = await exchange(app.addresses["http"], get("/_readiness"))
    ((readyz, _, _),) = await exchange(app.addresses["admin"], get("/readyz"))
    assert (ready, readyz) == (503, 503)
    assert not stopping.done()
    parts.core.finish_all()
    ((status, _, _),) = await first
    assert status == 200
    await stopping


async def test_sigterm_stops_and_a_second_one_exits_at_once(settings, parts):
    exits: list[int] = []
    parts.core.answer_at_once = False
    serving = asyncio.ensure_future(serve(settings, parts=parts, exit_at_once=exits.append))
    await until(settings.ready_file.exists)
    address = json.loads(settings.ready_file.read_text())["http"]
    waiting = asyncio.ensure_future(exchange(address, post()))
    await until(lambda: parts.core.submitted)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: not settings.ready_file.exists())
    assert not serving.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: exits)
    assert exits == [1]
    await serving
    assert parts.core.calls[-1] == "close"
    await asyncio.gather(waiting, return_exceptions=True)


async def test_listening_beyond_loopback_without_projects_is_warned_of(parts, caplog):
    settings = Settings(http="0.0.0.0:0", admin="127.0.0.1:0", drain_timeout_seconds=0)
    with caplog.at_level(logging.WARNING, "penstock"):
        async with started(settings, parts):
            pass
    assert "open_to_any_token" in caplog.text


@pytest.mark.parametrize(
    ("address", "answer"),
    [("127.0.0.1:80", True), ("[::1]:80", True), ("0.0.0.0:80", False), ("[::]:80", False)],
)
def test_loopback_is_told_from_the_rest(address, answer):
    assert is_loopback(address) is answer


async def test_what_the_core_has_to_say_is_logged(settings, parts, caplog):
    parts.core.calls.append("log")
    with caplog.at_level(logging.INFO, "penstock"):
        async with started(settings, parts):
            await asyncio.sleep(0)
    assert "core_event" in caplog.text


def test_greeting_uses_addresses_that_work(tmp_path):
    addresses = {"http": "0.0.0.0:8000", "grpc": "127.0.0.1:8001", "admin": "127.0.0.1:8002"}
    text = greeting(addresses, tmp_path, "phc_shop")
    assert "curl -i http://127.0.0.1:8000/batch/" in text
    assert '"api_key":"phc_shop"' in text
    assert f"penstock query --data-dir {tmp_path} " in text


def test_greeting_is_for_a_shell_and_names_what_can_be_reached():
    addresses = {"http": "[::]:8000", "grpc": "[::1]:8001", "admin": "127.0.0.1:8002"}
    text = greeting(addresses, Path("my data"), None, command=".venv/bin/penstock")
    assert "curl -i http://[::1]:8000/batch/" in text
    assert ".venv/bin/penstock query --data-dir 'my data' " in text


def test_the_command_of_the_greeting_is_the_one_that_runs(tmp_path, monkeypatch):
    # `make serve` runs it out of an environment that is not on the PATH.
    folder = tmp_path / "my env" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_command() == f"'{folder / 'python'}' -m penstock"
    (folder / "penstock").touch(mode=0o755)
    assert own_command() == f"'{folder / 'penstock'}'"
    monkeypatch.chdir(tmp_path)
    assert own_command() == "'my env/bin/penstock'"
    monkeypatch.setenv("PATH", str(folder))
    assert own_command() == "penstock"


def test_the_limit_of_open_files_is_raised_as_far_as_allowed(monkeypatch, caplog):
    asked = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: asked.append(limits))
    allow_open_files(1024)
    allow_open_files(2000)
    with caplog.at_level(logging.WARNING, "penstock"):
        allow_open_files(5000)
    assert asked == [(2000, 4096), (4096, 4096)]
    assert "open_files_limited" in caplog.text


class Loader:
    """What the file says at each reading."""

    def __init__(self, *results):
        self.results = list(results)

    def __call__(self):
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def closed(token):
    projects = {"shop": Project(tokens=[token])}
    return Settings(http="127.0.0.1:0", admin="127.0.0.1:0", projects=projects)


async def reload(app, parts, count):
    """Ask for a reload and wait until the core has been told so many times."""
    app.request_reload()
    await until(lambda: len(told(parts)) == count)


def told(parts):
    return [call for call in parts.core.calls if call.startswith("replace_projects")]


async def test_core_and_answers_take_the_same_projects(parts):
    app = App(closed("phc_old"), parts, Loader(closed("phc_new")))
    await app.start()
    try:
        await reload(app, parts, 1)
        assert '{"shop": {"tokens": ["phc_new"], "ack": null, "client_ip": null}}' in told(parts)[0]
        answers = await exchange(
            app.addresses["http"], get("/array/phc_new/config") + get("/array/phc_old/config")
        )
        assert [status for status, _, _ in answers] == [200, 404]
    finally:
        await app.shutdown()


async def test_a_reload_that_is_asked_for_during_the_start_is_done_after_it(parts):
    app = App(closed("phc_old"), parts, Loader(closed("phc_new")))
    app.request_reload()
    await app.start()
    try:
        await until(lambda: len(told(parts)) == 1)
    finally:
        await app.shutdown()


async def test_reloads_go_on_after_an_error_of_the_file_and_after_a_bug(parts, caplog):
    wrong = ConfigError("http", "file", "must be host:port")
    app = App(closed("phc_old"), parts, Loader(wrong, RuntimeError("bug"), closed("phc_new")))
    await app.start()
    try:
        for failures in (1, 2):
            app.request_reload()
            await until(lambda: caplog.text.count("reload_failed") >= failures)  # noqa: B023
        assert told(parts) == []
        await reload(app, parts, 1)
    finally:
        await app.shutdown()
