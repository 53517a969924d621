"""What only real sockets and the real loop show: resets, back-pressure, timers."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import uvloop

from penstock.engine import Engine
from penstock.transport.http import HttpFront, capture_front
from penstock.transport.http_limits import (
    MAX_DISCARDED_BYTES,
    MAX_MIRRORED_BYTES,
    HttpLimits,
)
from support.fake_core import ENDPOINTS, FakeCore
from support.http import read_response
from unit.transport.harness import post


class Listener:
    """A front on a loop in a thread of its own."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.started.wait(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        engine = Engine(FakeCore(answer_at_once=True))
        engine.start_notifications(self.loop)
        self.front: HttpFront = capture_front(engine, self.limits, ENDPOINTS)
        host, _, port = (await self.front.start("127.0.0.1:0")).rpartition(":")
        self.address = (host, int(port))
        self.started.set()
        await self.stopping.wait()
        await self.front.stop(1)
        engine.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)


LIMITS = HttpLimits(max_request_bytes=1 << 20, max_connections=4, tick_seconds=0.01)


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    running = Listener(LIMITS)
    yield running
    running.stop()


@pytest.fixture
def impatient() -> Iterator[Listener]:
    # Not for tests in which a client works: on a busy machine it may well be this slow.
    running = Listener(
        HttpLimits(
            header_timeout_seconds=0.05,
            body_idle_timeout_seconds=0.05,
            keep_alive_timeout_seconds=0.05,
            tick_seconds=0.01,
        )
    )
    yield running
    running.stop()


def statuses(connection, count):
    with connection.makefile("rb") as stream:
        return [read_response(stream).status for _ in range(count)]


def test_a_flood_of_pipelined_requests_is_answered_whole(listener):
    # Far past the cap: reading has to pause and resume many times.
    with listener.connect() as connection:
        threading.Thread(target=connection.sendall, args=(post(body=b"x" * 500) * 5000,)).start()
        assert statuses(connection, 5000) == [200] * 5000


def test_a_client_that_reads_late_gets_all_answers(listener):
    # The answers mirror the origin; they are more than the kernel holds for a client.
    request = post(headers=("Origin: https://" + "x" * (MAX_MIRRORED_BYTES - 8),))
    count = 15_000
    with listener.connect() as connection:
        sender = threading.Thread(target=connection.sendall, args=(request * count,))
        sender.start()
        while not any(each._write_paused for each in tuple(listener.front.connections)):
            # Gives the interpreter to the threads that this waits for.
            threading.Event().wait(0.005)
        assert statuses(connection, count) == [200] * count
        sender.join()


def test_a_client_that_sends_all_before_it_reads_sees_the_413(listener):
    # Closing on it would reset the connection, and the kernel would drop the answer.
    with listener.connect() as connection:
        connection.sendall(post(body=b"x" * (8 << 20)))
        assert statuses(connection, 1) == [413]
        connection.sendall(post())
        assert statuses(connection, 1) == [200]


def test_a_body_past_every_patience_is_refused_at_once(listener):
    with listener.connect() as connection:
        size = LIMITS.max_request_bytes + MAX_DISCARDED_BYTES + 1
        connection.sendall(b"POST /e HTTP/1.1\r\nContent-Length: %d\r\n\r\nxxx" % size)
        assert statuses(connection, 1) == [413]


def test_a_large_body_in_many_reads_is_taken(listener):
    with listener.connect() as connection:
        connection.sendall(post(body=b"x" * (1 << 20)))
        assert statuses(connection, 1) == [200]


@pytest.mark.parametrize(
    "start", [b"POST /e HT", b"POST /e HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"]
)
def test_slow_clients_are_told_and_closed(impatient, start):
    with impatient.connect() as connection:
        connection.sendall(start)
        assert statuses(connection, 1) == [408]
        assert connection.recv(1) == b""


def test_idle_connections_are_closed(impatient):
    with impatient.connect() as connection:
        assert connection.recv(1) == b""


def test_connections_above_the_limit_are_told_to_come_back(listener):
    connections = [listener.connect() for _ in range(LIMITS.max_connections)]
    try:
        for connection in connections:
            connection.sendall(post())
            assert statuses(connection, 1) == [200]
        with listener.connect() as extra:
            assert statuses(extra, 1) == [503]
    finally:
        for connection in connections:
            connection.close()
        while listener.front.connections:
            threading.Event().wait(0.005)


def test_garbage_is_answered_and_closed(listener):
    with listener.connect() as connection:
        connection.sendall(b"\x16\x03\x01" + b"\x00" * 5000)
        assert statuses(connection, 1) == [400]
        assert connection.recv(1) == b""


def test_a_client_in_mid_body_is_told_to_come_back_when_the_listener_stops():
    # Several SDKs lose the batch if the connection is closed on it.
    running = Listener(LIMITS)
    with running.connect() as connection:
        connection.sendall(post(body=b"x" * 1000)[:-500])
        while not running.front.receiving_bytes:
            threading.Event().wait(0.005)
        running.loop.call_soon_threadsafe(running.stopping.set)
        with connection.makefile("rb") as stream:
            answer = read_response(stream)
        assert (answer.status, answer.header("retry-after")) == (503, "2")
        assert answer.header("connection") == "close"
        connection.sendall(b"x" * 500)
        assert connection.recv(1) == b""
    running.stop()
