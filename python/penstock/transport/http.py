"""An HTTP listener: its connections, their shared clock, its counters, its life cycle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from penstock.config import split_address
from penstock.errors import ListenError
from penstock.logs import logger
from penstock.transport import http_responses
from penstock.transport.http_limits import READ_BYTES
from penstock.transport.http_protocol import HttpProtocol
from penstock.transport.http_query import read_query
from penstock.transport.http_refused import RefusedRequests
from penstock.transport.http_request import refused_here
from penstock.transport.http_routes import (
    RECORDINGS,
    UNKNOWN,
    Page,
    Route,
    ai_routes,
    capture_routes,
    mounted,
    page_routes,
)

if TYPE_CHECKING:
    from penstock.engine import AiHead, Engine, V1Headers
    from penstock.posthog.calls import Call
    from penstock.transport.http_connection import HttpConnection
    from penstock.transport.http_limits import HttpLimits
    from penstock.transport.http_query import Query

_log = logger("http")

# Connections that the kernel holds for us while the loop is busy: a burst of one commit group.
_BACKLOG: Final = 1024

# Threads that read files: one while the other waits for a disk.
_FILE_THREADS: Final = 2

_COME_BACK: Final = refused_here("shutting_down", "", 2)

Submit = Callable[[object, bytes, int, int, int | None, str | None, bytes | None], Any]
FindCall = Callable[[bytes, bytes], "Call | None"]
SubmitAi = Callable[[object, bytes, int, int, "AiHead", str | None], Any]
SubmitV1 = Callable[[object, bytes, int, int | None, "V1Headers", str | None], Any]


class HttpFront:
    """One listener and everything that its connections share.

    Attributes:
        routes: By raw path, as far as it can be found without looking at the query.
        unknown: The route of everything else.
        find_call: Finds what SDKs call besides capture, by raw path without prefix and query.
        prefixes: Paths under which that is found as well.
        submit: `submit_http` of the engine.
        submit_ai: `submit_ai` of the engine.
        submit_v1: `submit_v1` of the engine.
        now: Seconds of the loop's clock at the last tick; what timeouts are measured with.
        date: The date header of this second.
        read_buffer: Where every read of every connection goes, to be fed before the next.
        refused: The newest requests of capture that were refused.
        success: The whole common answer of this second.
        draining: Whether new requests are refused because the service stops.
    """

    __slots__ = (
        "_clock",
        "_executor",
        "_server",
        "_timer",
        "connections",
        "connections_opened",
        "counts",
        "date",
        "draining",
        "find_call",
        "limits",
        "name",
        "now",
        "prefixes",
        "read_buffer",
        "received_bytes",
        "receiving_bytes",
        "refused",
        "routes",
        "sent_bytes",
        "submit",
        "submit_ai",
        "submit_v1",
        "success",
        "unknown",
    )

    def __init__(  # noqa: PLR0913 - what fronts are made of, by name
        self,
        name: str,
        *,
        routes: Mapping[bytes, Route],
        limits: HttpLimits,
        submit: Submit | None = None,
        submit_v1: SubmitV1 | None = None,
        find_call: FindCall | None = None,
        prefixes: Sequence[str] = (),
        submit_ai: SubmitAi | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.find_call = find_call
        self.prefixes = tuple(prefix.encode() + b"/" for prefix in prefixes)
        self._executor: ThreadPoolExecutor | None = None
        self.routes = dict(routes)
        self.limits = limits
        self.submit = submit or _refuse_capture
        self.submit_ai = submit_ai or _refuse_capture
        self.submit_v1 = submit_v1 or _refuse_capture
        self.unknown = Route(UNKNOWN)
        for route in (*self.routes.values(), self.unknown):
            route.max_body_bytes = route.max_body_bytes or limits.max_request_bytes
        self.draining = False
        self.read_buffer = memoryview(bytearray(READ_BYTES))
        self.connections: set[HttpConnection] = set()
        self.connections_opened = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.receiving_bytes = 0
        self.counts: dict[tuple[str, int], int] = {}
        self.refused = RefusedRequests()
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.now = clock() if clock else 0.0
        self.date = b""
        self.success = b""
        self.tick()

    # Life cycle.

    async def start(self, address: str) -> str:
        """Listen, and give the real address.

        Raises:
            ListenError: The address can't be listened on, for example since its port is in use.
        """
        loop = asyncio.get_running_loop()
        if self._clock is None:
            self._clock = loop.time
        host, port = split_address(address)
        try:
            self._server = await loop.create_server(
                lambda: HttpProtocol(self), host, port, backlog=_BACKLOG
            )
        except OSError as error:
            raise ListenError(self.name, address, error.strerror or str(error)) from error
        self._run_timer()
        return address_text(self._server.sockets[0].getsockname())

    def begin_drain(self) -> None:
        """Refuse new requests from now on; those under way are finished, the port stays open.

        A closed port would make several SDKs lose the batch.
        """
        self.draining = True

    async def stop(self, grace_seconds: float) -> None:
        """Close the connections as they become idle, all after the grace, and then the port.

        Requests that are still being received, or come now, are told to come back: a closed
        connection or port would make several SDKs lose the batch.
        """
        self.draining = True
        for connection in tuple(self.connections):
            connection.refuse_unfinished(_COME_BACK)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_seconds
        while True:
            for connection in tuple(self.connections):
                connection.close_if_idle()
            if not self.connections or loop.time() >= deadline:
                break
            await asyncio.sleep(0.01)
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def executor(self) -> Executor:
        """Give the threads that may wait for a disk; started when first used."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(_FILE_THREADS, "penstock-files")
        return self._executor

    def tick(self) -> None:
        """Advance the clock, renew the common answers and enforce timeouts."""
        if self._clock is not None:
            self.now = self._clock()
        date = http_responses.date_header()
        if date != self.date:
            self.date = date
            self.success = http_responses.success(date)
        for connection in tuple(self.connections):
            connection.check(self.now)

    def _run_timer(self) -> None:
        self.tick()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.limits.tick_seconds, self._run_timer)

    # What connections ask.

    def find_route(self, url: bytes) -> tuple[Route, Query | None]:
        """Find the route of a URL with a query, or in absolute form."""
        if url.startswith((b"http://", b"https://")):
            authority, slash, rest = url.partition(b"//")[2].partition(b"/")
            url = slash + rest if authority else url
        path, _, query = url.partition(b"?")
        route = self.routes.get(path)
        if route is None:
            route = self._find_call_route(path, query)
        wanted = query and (route.endpoint or route.call is not None)
        return route, read_query(query) if wanted else None

    def _find_call_route(self, path: bytes, query: bytes) -> Route:
        if self.find_call is None:
            return self.unknown
        call = self.find_call(path, query)
        for prefix in self.prefixes:
            if call is None and path.startswith(prefix):
                call = self.find_call(path[len(prefix) - 1 :], query)
        if call is None:
            return self.unknown
        return Route(call.name, call=call, max_body_bytes=self.limits.max_request_bytes)

    def count(self, route: str, status: int) -> None:
        """Count an answer other than the common."""
        key = (route, status)
        self.counts[key] = self.counts.get(key, 0) + 1

    def request_counts(self) -> dict[tuple[str, int], int]:
        """Give the answers so far by (route, status)."""
        counts = dict(self.counts)
        for route in {id(route): route for route in self.routes.values()}.values():
            if route.stored:
                key = (route.name, 200)
                counts[key] = counts.get(key, 0) + route.stored
        return counts


def capture_front(
    engine: Engine,
    limits: HttpLimits,
    endpoints: list[tuple[str, int]],
    clock: Callable[[], float] | None = None,
    *,
    prefixes: Sequence[str] = (),
    find_call: FindCall | None = None,
) -> HttpFront:
    """Make the listener that SDKs send to.

    Args:
        engine: Takes what is captured.
        limits: Of connections and requests.
        endpoints: `_core.endpoints()`.
        clock: Instead of the loop's.
        prefixes: Paths under which every route is found as well.
        find_call: Finds what SDKs call besides capture; None: nothing of it is there.
    """
    front: HttpFront

    def readiness() -> Page:
        if front.draining:
            return Page(503, http_responses.TEXT, b"shutting_down")
        if engine.would_accept():
            return Page(200, http_responses.TEXT, b"capture")
        state, reason = engine.core.state()
        return Page(503, http_responses.TEXT, (reason or state).encode())

    def alive() -> Page:
        return Page(200, http_responses.TEXT, b"capture")

    routes = capture_routes(endpoints, {RECORDINGS: limits.max_recording_bytes}) | ai_routes(
        endpoints
    )
    routes |= page_routes((("/", alive), ("/_liveness", alive), ("/_readiness", readiness)))
    routes = mounted(routes, prefixes)
    front = HttpFront(
        "http",
        routes=routes,
        limits=limits,
        submit=engine.submit_http,
        submit_v1=engine.submit_v1,
        find_call=find_call,
        prefixes=prefixes,
        submit_ai=engine.submit_ai,
        clock=clock,
    )
    return front


def address_text(socket_name: tuple[Any, ...]) -> str:
    """Write a socket's name as `host:port`."""
    host, port = socket_name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse_capture(*_: object) -> None:
    """Stand in for the core on a listener without capture routes; nothing leads here."""
    raise AssertionError("this listener has no capture routes")
