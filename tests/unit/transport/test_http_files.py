"""Files, on real sockets: whole, in order, at the client's pace, and let go of."""

import asyncio
import contextlib
import functools
import os

import pytest
import uvloop

from penstock.config import Settings
from penstock.engine import Engine
from penstock.posthog.paths import SdkAnswers
from penstock.transport.http import capture_front
from penstock.transport.http_file import CHUNK_BYTES
from penstock.transport.http_limits import HttpLimits
from support.fake_core import ENDPOINTS, FakeCore
from unit.transport.harness import parse_answers

# More than the kernel and both chunks hold of it, so that a client that does not read stops it.
LARGE = os.urandom(1 << 20) * 16
LIMITS = {"tick_seconds": 0.01, "write_timeout_seconds": 10.0}


def on_uvloop(test):
    """Run a test on the loop that the service has: its transports are others than asyncio's."""

    @functools.wraps(test)
    def run(folder):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(folder))

    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "array.js").write_bytes(b"array()")
    (tmp_path / "large.js").write_bytes(LARGE)
    (tmp_path / "empty.js").write_bytes(b"")
    return tmp_path


class Listener:
    def __init__(self, front, files, address):
        self.front = front
        self.files = files
        self.address = address

    async def connect(self, *, limit=2**16):
        host, _, port = self.address.rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=limit)

    async def exchange(self, request):
        reader, writer = await self.connect()
        writer.write(request)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def listening(folder, **limits):
    core = FakeCore(answer_at_once=True)
    engine = Engine(core)
    engine.start_notifications(asyncio.get_running_loop())
    answers = SdkAnswers(Settings(static_dir=folder), lambda *_: "phc_1")
    front = capture_front(engine, HttpLimits(**LIMITS | limits), ENDPOINTS, find_call=answers.find)
    address = await front.start("127.0.0.1:0")
    try:
        yield Listener(front, answers._files, address)
    finally:
        await front.stop(1)
        engine.close()


async def until(condition):
    """Wait for what another task or the kernel brings about."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.001)


def get(path, *headers):
    return "\r\n".join([f"GET {path} HTTP/1.1", *headers, "", ""]).encode()


@on_uvloop
async def test_files_come_whole_and_in_order_with_what_is_between_them(folder):
    async with listening(folder) as listener:
        requests = [
            get("/static/large.js"),
            get("/static/missing.js"),
            get("/static/empty.js"),
            get("/flags/"),
            get("/static/array.js?v=1.449.2"),
            get("/array/phc_1/array.js"),
        ]
        answers = parse_answers(await listener.exchange(b"".join(requests)))
        assert [status for status, _, _ in answers] == [200, 404, 200, 200, 200, 200]
        bodies = [body for _, _, body in answers]
        assert bodies[0] == LARGE
        assert (bodies[2], bodies[4]) == (b"", b"array()")
        assert bodies[5].startswith(b"(function(){")
        assert bodies[5].endswith(b"array()")
        assert not listener.files.opened


@on_uvloop
async def test_a_connection_ends_behind_a_file_when_it_is_to(folder):
    async with listening(folder) as listener:
        reader, writer = await listener.connect()
        writer.write(get("/static/large.js", "Connection: close"))
        ((status, headers, body),) = parse_answers(await reader.read())
        assert (status, headers["connection"], body == LARGE) == (200, "close", True)
        writer.close()


@on_uvloop
async def test_head_and_a_good_copy_send_no_file(folder):
    async with listening(folder) as listener:
        head = get("/static/large.js").replace(b"GET", b"HEAD")
        ((status, headers, _),) = parse_answers(await listener.exchange(head), to_head=True)
        assert (status, headers["content-length"]) == (200, str(len(LARGE)))
        tag = f"If-None-Match: {headers['etag']}"
        ((status, again, body),) = parse_answers(
            await listener.exchange(get("/static/large.js", tag))
        )
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])
        assert not listener.files.opened


@on_uvloop
async def test_a_client_that_does_not_read_holds_little_and_nobody_up(folder):
    async with listening(folder) as listener:
        reader, writer = await listener.connect(limit=1024)
        writer.write(get("/static/large.js"))
        (connection,) = await connected(listener)
        await until(lambda: connection._write_paused)
        # What is held of a file for one client: what waits to be written.
        assert connection.transport.get_write_buffer_size() <= 4 * CHUNK_BYTES
        assert b"200 OK" in await listener.exchange(get("/_liveness"))
        assert b"array()" in await listener.exchange(get("/static/array.js"))
        # Then it reads, and gets all.
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        assert await reader.readexactly(len(LARGE)) == LARGE
        writer.close()
        await until(lambda: not listener.files.opened)


@on_uvloop
async def test_a_client_that_goes_away_lets_go_of_its_file(folder):
    async with listening(folder) as listener:
        _, writer = await listener.connect(limit=1024)
        # The second file is open too while it waits for its turn.
        writer.write(get("/static/large.js") + get("/static/array.js"))
        (connection,) = await connected(listener)
        await until(lambda: connection._write_paused and len(listener.files.opened) == 2)
        writer.transport.abort()
        await until(lambda: not listener.files.opened)


@on_uvloop
async def test_a_client_that_takes_for_ever_is_ended(folder):
    async with listening(folder, file_timeout_seconds=0.05, write_timeout_seconds=1e6) as listener:
        reader, writer = await listener.connect(limit=1024)
        writer.write(get("/static/large.js"))
        await connected(listener)
        await until(lambda: not listener.front.connections)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(len(LARGE))
        assert not listener.files.opened
        writer.close()


@on_uvloop
async def test_a_file_that_becomes_shorter_is_not_passed_off_as_whole(folder):
    async with listening(folder) as listener:
        reader, writer = await listener.connect(limit=1024)
        writer.write(get("/static/large.js"))
        (connection,) = await connected(listener)
        await until(lambda: connection._write_paused)
        os.truncate(folder / "large.js", 10)
        await reader.readuntil(b"\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(len(LARGE))
        writer.close()
        await until(lambda: not listener.files.opened)


@on_uvloop
async def test_a_stop_ends_files_that_are_under_way(folder):
    async with listening(folder) as listener:
        _, writer = await listener.connect(limit=1024)
        writer.write(get("/static/large.js"))
        (connection,) = await connected(listener)
        await until(lambda: connection._write_paused)
        await listener.front.stop(0)
        await until(lambda: not listener.files.opened)
        writer.close()


async def connected(listener):
    await until(lambda: listener.front.connections)
    return list(listener.front.connections)
