"""One connection, seen from its transport: answers in order, pauses, timeouts, the end.

What comes in is parsed by `HttpProtocol`, built on this. Timeouts are looked at by the front for
all connections at once (`check`), so that a request sets no timer.

States: *head* (between a request's first byte and the end of its headers), *body* (`_reading` is
set), *answering* (`pending` holds whole requests), *idle*, and *lingering*: answered for the last
time, reading and dropping so that the client gets to see the answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from penstock.transport import http_responses
from penstock.transport.http_file import FileSender
from penstock.transport.http_forwarded import plain_address
from penstock.transport.http_limits import (
    LINGER_SECONDS,
    MAX_DISCARDED_BYTES,
    MAX_PIPELINED_BYTES,
    MAX_PIPELINED_REQUESTS,
    MAX_REFUSED_CONNECTIONS,
)
from penstock.transport.http_request import HttpRequest, Verdict, refused_here

if TYPE_CHECKING:
    from penstock.transport.http import HttpFront

_CLIENT_STOPPED: Final = Verdict(408, b"client stopped sending data")


class HttpConnection(asyncio.BufferedProtocol):
    """The transport's side of one connection. All methods run on the loop's thread.

    Attributes:
        front: What all connections share.
        pending: Requests whose answers are not written, oldest first; the last may still be read.
        transport: None once the connection is lost.
    """

    __slots__ = (
        "_body",
        "_counted_bytes",
        "_dropped_bytes",
        "_half_closed",
        "_in_head",
        "_lingering",
        "_message_since",
        "_peer",
        "_pending_bytes",
        "_pieces",
        "_read_paused",
        "_reading",
        "_sender",
        "_since",
        "_taking",
        "_verdict",
        "_write_paused",
        "front",
        "pending",
        "transport",
    )

    def __init__(self, front: HttpFront) -> None:
        self.front = front
        self.transport: asyncio.Transport | None = None
        self.pending: deque[HttpRequest] = deque()
        self._peer: str | None = None
        self._since = front.now
        self._message_since = front.now
        self._reading: HttpRequest | None = None
        # Of a file, which belongs to the first of those that wait.
        self._sender: FileSender | None = None
        self._verdict: Verdict | None = None
        self._body: bytes | None = None
        self._pieces: list[bytes | bytearray] | None = None
        self._in_head = False
        # False: the last request has come; what follows is dropped.
        self._taking = True
        self._lingering = False
        self._half_closed = False
        self._read_paused = False
        self._write_paused = False
        self._pending_bytes = 0
        self._dropped_bytes = 0
        self._counted_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection, or refuse it when there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        front = self.front
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and peer:
            self._peer = plain_address(peer[0])
        front.connections_opened += 1
        too_many = len(front.connections) - front.limits.max_connections
        front.connections.add(self)
        if too_many >= MAX_REFUSED_CONNECTIONS:
            self.transport.abort()
        elif too_many >= 0:
            self._fail(refused_here("overloaded", "too many connections", 2))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection. What the core holds of it goes on and is stored."""
        self.front.connections.discard(self)
        self.transport = None
        self._taking = False
        self._forget_pending()
        self._forget_body()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Give the place that the next read goes to: one for all, since each is fed at once.

        Where the transport makes an object of each read instead, every body is copied once more.
        """
        return self.front.read_buffer

    def eof_received(self) -> bool:
        """Keep a connection whose client only waits for answers; close any other."""
        self._half_closed = True
        if self._reading is not None:
            # Nothing of a request that is cut off counts, but those before it are answered.
            self.pending.pop()
            self._forget_body()
        if self._lingering or not self.pending:
            return False
        self._taking = False
        return True

    def pause_writing(self) -> None:
        """Stop answering and reading: the client does not take its answers."""
        self._write_paused = True
        self._update_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._write_paused = False
        if self._sender is not None:
            self._sender.go()
        else:
            self._flush()
        self._update_reading()

    # Answers.

    def hold(self, request: HttpRequest, size: int) -> None:
        """Count what is kept for `request` until its answer is written."""
        request.held_bytes += size
        self._pending_bytes += size

    def answered(self, request: HttpRequest) -> None:
        """Write the answer of `request` and those behind it, if it is its turn."""
        pending = self.pending
        if pending and pending[0] is request:
            self._flush()

    def _flush(self) -> None:
        transport = self.transport
        if transport is None or self._write_paused or self._sender is not None:
            return
        pending = self.pending
        last = self._write_answers(transport)
        if last is not None and last.file is not None:
            self._send_file(last)
        elif last is not None:
            self._end(fully_read=last.fully_read)
        elif self._half_closed and not pending:
            transport.close()
        elif pending and pending[0].continue_due:
            self._send_continue(pending[0])
        if self._read_paused:
            self._update_reading()

    def _write_answers(self, transport: asyncio.Transport) -> HttpRequest | None:
        """Write the answers whose turn it is; give the last if it ends in more than that.

        Such a last one ends the connection, or has a file, and then stays first in line until that
        is sent.
        """
        pending = self.pending
        answers: list[bytes] = []
        last: HttpRequest | None = None
        while pending and last is None:
            request = pending[0]
            if request.answer is None:
                break
            answers.append(request.answer)
            if request.file is not None:
                last = request
                break
            pending.popleft()
            self._pending_bytes -= request.held_bytes
            if request.facts is not None and request.facts.close:
                last = request
        if answers:
            self._since = self.front.now
            answer = answers[0] if len(answers) == 1 else b"".join(answers)
            self.front.sent_bytes += len(answer)
            transport.write(answer)
        return last

    # Files.

    def _send_file(self, request: HttpRequest) -> None:
        file, request.file = request.file, None
        assert file is not None  # noqa: S101 - the caller looked
        # What is left of the answer once the file is sent.
        request.answer = b""
        self._sender = FileSender(self, file, self.front.executor(), self.front.now)
        self._sender.go()

    def send_chunk(self, chunk: bytes) -> bool:
        """Write a part of a file; tell whether another may follow at once."""
        if self.transport is None:
            return False
        self._since = self.front.now
        self.front.sent_bytes += len(chunk)
        self.transport.write(chunk)
        return not self._write_paused

    def file_sent(self) -> None:
        """Go on with what waits behind a file."""
        self._sender = None
        self._flush()

    def _forget_pending(self) -> None:
        """Forget requests that nobody waits for; the core's results of them go nowhere."""
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None
        for request in self.pending:
            if request.file is not None:
                request.file.close()
                request.file = None
        self.pending.clear()

    def _send_continue(self, request: HttpRequest) -> None:
        request.continue_due = False
        # None of the body has come with the head: it would be too late to invite it.
        if self.transport is not None and self._body is None and self._reading is request:
            self.transport.write(http_responses.CONTINUE)

    def _give_verdict(self, request: HttpRequest, verdict: Verdict, *, at_once: bool) -> None:
        """Answer now, which ends the connection, or once the request has been read."""
        self._verdict = verdict
        if at_once:
            request.need_facts().close = True
            self._reading = None
            self._taking = False
            request.finish(verdict)

    def _fail(self, verdict: Verdict) -> None:
        """Answer what can't be read any further, after the answers before it."""
        if not self._taking:
            return
        request = self._reading
        if request is None:
            request = HttpRequest(self, self.front.unknown)
            if self._in_head:
                self._learn_from_head(request)
            self.pending.append(request)
        self._in_head = False
        self._forget_body()
        self._give_verdict(request, verdict, at_once=True)

    def _learn_from_head(self, request: HttpRequest) -> None:
        """Keep who asks, and by which protocol, if the part of a head that came says so.

        Browsers show no other answer, and clients understand no other.
        """
        raise NotImplementedError

    def _forget_body(self) -> None:
        self._reading = self._body = self._pieces = None
        self._give_back_counted()

    def _give_back_counted(self) -> None:
        self.front.receiving_bytes -= self._counted_bytes
        self._counted_bytes = 0

    # The end, pauses, time.

    def _end(self, *, fully_read: bool) -> None:
        """Close, at once or after the client has had the time to read the last answer."""
        self._taking = False
        self._forget_pending()
        transport = self.transport
        if transport is None:
            return
        if fully_read or self._half_closed:
            transport.close()
            return
        self._lingering = True
        if transport.can_write_eof():
            transport.write_eof()

    def _drop(self, size: int) -> None:
        """Read and forget: what follows the last request, or the rest of a refused one."""
        self._dropped_bytes += size
        if self._dropped_bytes > MAX_DISCARDED_BYTES and self.transport is not None:
            self.transport.abort()

    def _update_reading(self) -> None:
        """Stop reading while too much waits; go on when it no longer does."""
        full = not self._lingering and (
            self._write_paused
            or len(self.pending) > MAX_PIPELINED_REQUESTS
            or self._pending_bytes > MAX_PIPELINED_BYTES
        )
        transport = self.transport
        if transport is None or full == self._read_paused or transport.is_closing():
            return
        self._read_paused = full
        if full:
            transport.pause_reading()
        else:
            # What it could not send meanwhile is no fault of the client.
            self._since = self._message_since = self.front.now
            transport.resume_reading()

    def check(self, now: float) -> None:
        """Enforce the timeouts; called by the front every tick."""
        transport = self.transport
        if transport is None:
            return
        quiet = now - self._since
        limits = self.front.limits
        if self._lingering:
            if quiet >= LINGER_SECONDS:
                transport.abort()
        elif self._write_paused or transport.is_closing():
            if quiet >= limits.write_timeout_seconds or self._sends_for_too_long(now):
                transport.abort()
        elif self._read_paused:
            # It waits for us.
            return
        elif self._reading is not None or self._in_head:
            if self._is_too_slow(now):
                self._fail(self._verdict or _CLIENT_STOPPED)
        elif not self.pending and quiet >= limits.keep_alive_timeout_seconds:
            transport.close()

    def _sends_for_too_long(self, now: float) -> bool:
        """Tell whether a client takes a file so slowly that others should have its place."""
        sender = self._sender
        limit = self.front.limits.file_timeout_seconds
        return sender is not None and now - sender.since >= limit

    def _is_too_slow(self, now: float) -> bool:
        limits = self.front.limits
        whole = now - self._message_since
        if self._reading is None:
            return whole >= limits.header_timeout_seconds
        # Behind unanswered requests its `100 Continue` may be ours to send: no fault of the client.
        return self.pending[0] is self._reading and (
            now - self._since >= limits.body_idle_timeout_seconds
            or whole >= limits.body_timeout_seconds
        )

    def refuse_unfinished(self, verdict: Verdict) -> None:
        """Answer a request that is still being received, and end the connection behind it."""
        if self._reading is not None or self._in_head:
            self._fail(self._verdict or verdict)

    def close_if_idle(self) -> None:
        """Close a connection on which nothing is under way; one that lingers ends by itself."""
        busy = self.pending or self._in_head or self._lingering
        if self.transport is not None and not busy:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()
