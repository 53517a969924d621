"""One HTTP/1.1 connection, seen from its parser: bytes to requests, handed on as they are whole.

Pipelined requests go to the core at once, so that they share a commit group; their answers wait
for their turn in `HttpConnection`.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import httptools

from penstock.logs import logger
from penstock.transport import http_headers
from penstock.transport.bearer import bearer_token
from penstock.transport.http_ai import EXPORTS, URL_MARKS, export_type
from penstock.transport.http_call import verdict_of_answer
from penstock.transport.http_connection import HttpConnection
from penstock.transport.http_forwarded import client_of
from penstock.transport.http_head import verdict_of_head
from penstock.transport.http_headers import V1_HEADERS, learn, spellings
from penstock.transport.http_limits import (
    LARGE_PIECE_BYTES,
    MAX_DISCARDED_BYTES,
    MAX_FORWARDED_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_MIRRORED_BYTES,
    MAX_PIPELINED_BYTES,
    MAX_PIPELINED_REQUESTS,
    MAX_URL_BYTES,
)
from penstock.transport.http_query import (
    CODING_UNSPECIFIED,
    CODING_UNSUPPORTED,
    Query,
    content_coding,
)
from penstock.transport.http_request import HttpRequest, Verdict, refused_here
from penstock.transport.http_routes import POST_METHODS
from penstock.transport.http_upgrade import ResumedBody
from penstock.transport.http_v1 import URL_MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.engine import RefusalLike, V1Headers
    from penstock.posthog.calls import Answer, Call
    from penstock.transport.http import HttpFront

_log = logger("http")

# Headers in which proxies say who the client is.
_FORWARDING: Final = frozenset(
    {http_headers.FORWARDED, http_headers.STANDARD_FORWARDED, http_headers.REAL_IP}
)

# URLs whose routes look at headers that others don't.
_KEEPING_MARKS: Final = (*URL_MARKS, URL_MARK)

# Bodies that start so are read whatever their headers say: gzip, zstd, and JSON.
_READABLE: Final = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"{", b"[")
# White space and a byte order mark may stand before JSON; so much of a body is looked at.
_HEAD_BYTES: Final = 64
# Those of them that need no word of a header on another body than JSON.
_COMPRESSED: Final = _READABLE[:2]

_BAD_REQUEST: Final = Verdict(400, b"failed to parse request: not HTTP/1.1")
_URL_TOO_LONG: Final = Verdict(414, b"URL is too long")
_EXPECTATION_FAILED: Final = Verdict(417, b"only 100-continue may be expected")
_HEADERS_TOO_LARGE: Final = Verdict(431, b"request headers are too large")
_INTERNAL: Final = Verdict(500, b"internal error")
_OVERLOADED: Final = refused_here("overloaded", "", 1)


class HttpProtocol(HttpConnection):
    """The parser's side of one connection."""

    __slots__ = (
        "_body_bytes",
        "_coding",
        "_connection_header",
        "_content_length",
        "_dry_bytes",
        "_ended",
        "_expect",
        "_forwarded",
        "_head_bytes",
        "_header_bytes",
        "_header_count",
        "_if_none_match",
        "_kept_headers",
        "_origin",
        "_parser",
        "_preflight",
        "_query",
        "_requested_headers",
        "_transfer_encoding",
        "_upgrading",
        "_url",
        "_user_agent",
    )

    def __init__(self, front: HttpFront) -> None:
        super().__init__(front)
        self._parser = httptools.HttpRequestParser(self)
        self._upgrading: HttpRequest | None = None
        # Whether a request ended in the read that is being fed.
        self._ended = False
        self._reset()

    def _reset(self) -> None:
        """Forget the request before."""
        self._url = b""
        self._head_bytes = 0
        self._header_bytes = 0
        self._header_count = 0
        self._content_length = -1
        self._coding = CODING_UNSPECIFIED
        self._origin: bytes | None = None
        self._expect: bytes | None = None
        # What proxies say of the client, by kind; None: nothing, or no proxy is trusted.
        self._forwarded: dict[int, bytes] | None = None
        self._if_none_match = b""
        self._connection_header = False
        self._transfer_encoding = False
        self._preflight = False
        self._requested_headers = b""
        self._query: Query | None = None
        # By kind, where the URL may be one of a route that looks at them.
        self._kept_headers: dict[int, bytes] | None = None
        self._user_agent: bytes | None = None
        self._verdict = None
        self._body = None
        self._pieces = None
        self._body_bytes = 0
        # Fed since the last piece of the body: chunk sizes, trailers.
        self._dry_bytes = 0

    def buffer_updated(self, nbytes: int) -> None:
        """Take a read of so many bytes into the shared buffer."""
        self.data_received(self.front.read_buffer[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Feed what came; every request in it is handed on. Nothing keeps `data` itself."""
        front = self.front
        front.received_bytes += len(data)
        if not self._taking:
            self._drop(len(data))
            return
        self._since = front.now
        self._ended = False
        body_bytes = self._body_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data, upgrade)
        except httptools.HttpParserError as error:
            self._after_error(error)
        if self._reading is not None:
            self._check_body(len(data), dry=self._body_bytes == body_bytes and not self._ended)
        elif self._in_head:
            self._check_head(len(data))
        if (
            len(self.pending) > MAX_PIPELINED_REQUESTS or self._pending_bytes > MAX_PIPELINED_BYTES
        ) and not self._read_paused:
            self._update_reading()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Start a request."""
        self._reset()
        self._in_head = True
        self._message_since = self.front.now

    def on_url(self, url: bytes) -> None:
        """Take the URL, or a part of one that came in pieces."""
        self._url = url = self._url + url if self._url else url
        # The first two tell most URLs apart at a fifth of the cost.
        if (b"/v0/" in url or b"/v1/" in url) and any(mark in url for mark in _KEEPING_MARKS):
            self._kept_headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what is needed of a header."""
        if not self._in_head:
            # A trailer: no proxy looks at it, so it must not pass for a header.
            return
        self._header_bytes += len(name) + len(value)
        self._header_count += 1
        kind = spellings.get(name)
        if kind is None:
            kind = learn(name)
        if kind and kind < http_headers.AUTHORIZATION:
            self._keep(kind, value)
        elif kind:
            if kind == http_headers.USER_AGENT:
                self._user_agent = value
            if self._kept_headers is not None:
                self._kept_headers[kind] = value

    def on_headers_complete(self) -> None:
        """Decide what can be decided before the body is read."""
        self._in_head = False
        if self._counted_bytes:
            self._give_back_counted()
        if not self._taking:
            return
        front = self.front
        route = front.routes.get(self._url)
        if route is None:
            route, self._query = front.find_route(self._url)
        request = HttpRequest(self, route)
        request.user_agent = self._user_agent
        self._reading = request
        self.pending.append(request)
        parser = self._parser
        close = front.draining or not parser.should_keep_alive()
        if (
            close
            or self._origin is not None
            or self._connection_header
            or self._kept_headers is not None
        ):
            self._learn_facts(request, close=close)
        if (
            parser.get_method() != b"POST"
            or not route.endpoint
            or front.draining
            or self._expect is not None
            or self._content_length > route.max_body_bytes
            or self._header_bytes > MAX_HEADER_BYTES
            or self._header_count > MAX_HEADERS
            or len(self._url) > MAX_URL_BYTES
        ):
            self._decide_early(request, parser.get_method())
        if self._connection_header and parser.should_upgrade():
            self._hold_upgrade()
        # Up to 64 KiB that nobody asks for again, however long the body takes.
        self._url = b""

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body; the first is kept as it is."""
        if self._body is None and self._verdict is None:
            self._body = body
            self._body_bytes = len(body)
        elif self._reading is not None:
            self._more_body(self._reading, body)

    def on_message_complete(self) -> None:
        """Answer or hand on a request that is whole."""
        self._ended = True
        request = self._reading
        if request is None:
            return
        request.fully_read = True
        if self._counted_bytes:
            self._give_back_counted()
        body = self._body or b""
        if self._pieces is not None:
            body = b"".join(self._pieces)
            self._pieces = None
        self._body = None
        if len(body) > request.route.max_body_bytes:
            self._refuse_body(request, refused_here("request_too_large"))
        if self._verdict is None:
            self._submit(request, body)
        else:
            self._reading = None
            request.finish(self._verdict)
        # Not before: what `submit` raises is answered only while requests are taken.
        facts = request.facts
        if facts is not None and facts.close:
            self._taking = False

    def _submit(self, request: HttpRequest, body: bytes) -> None:
        """Hand a request to the core; it is the ticket that comes back with the result."""
        call = request.route.call
        if call is not None:
            self._answer_call(request, call, body)
            return
        front = self.front
        if request.route.ai:
            self._submit_ai(request, body)
            return
        if request.route.v1:
            self._submit_v1(request, body)
            return
        coding = self._coding
        sent_at_us = None
        query = self._query
        if query is not None:
            coding = query.coding or coding
            sent_at_us = query.sent_at_us
            request.beacon = query.beacon
            if query.data:
                # It wins over a body, and a header told of that. To the core it is a form.
                body = b"data=" + query.data
                coding = query.coding
                if len(body) > request.route.max_body_bytes:
                    self._reading = None
                    request.finish(refused_here("request_too_large"))
                    return
        if coding == CODING_UNSUPPORTED:
            if not body[:_HEAD_BYTES].removeprefix(BOM_UTF8).lstrip().startswith(_READABLE):
                self._reading = None
                request.finish(refused_here("unsupported_coding"))
                return
            coding = CODING_UNSPECIFIED
        self.hold(request, len(body))
        client = self._peer if self._forwarded is None else self._forwarded_client()
        route = request.route
        agent = request.user_agent if route.of_recordings else None
        refusal = front.submit(request, body, route.endpoint, coding, sent_at_us, client, agent)
        # Not before: what `submit` raises is answered to the request that is being read.
        self._reading = None
        if refusal is not None:
            self._refuse(request, refusal)

    def _submit_ai(self, request: HttpRequest, body: bytes) -> None:
        """Hand a request whose headers say what it is to the core."""
        coding = self._coding
        if coding == CODING_UNSUPPORTED:
            if not body.startswith(_COMPRESSED):
                self._reading = None
                request.finish(refused_here("unsupported_coding"))
                return
            coding = CODING_UNSPECIFIED
        kept = self._kept_headers or {}
        head = (
            kept.get(http_headers.CONTENT_TYPE, b"").decode("latin-1"),
            bearer_token(kept.get(http_headers.AUTHORIZATION, b"").decode("latin-1")),
            None if self._query is None else self._query.sent_at_us,
        )
        self._submit_with(self.front.submit_ai, request, body, coding, head)

    def _submit_v1(self, request: HttpRequest, body: bytes) -> None:
        """Hand a request of capture v1 to the core; its query says nothing."""
        kept = self._kept_headers or {}
        headers = cast("V1Headers", tuple(map(kept.get, V1_HEADERS)))
        coding = None if self._coding == CODING_UNSUPPORTED else self._coding
        self._submit_with(self.front.submit_v1, request, body, coding, headers)

    def _submit_with(
        self,
        submit: Callable[..., RefusalLike | None],
        request: HttpRequest,
        body: bytes,
        coding: int | None,
        told: object,
    ) -> None:
        """Hand over a request and what its headers tell. `_submit` is hot and does so itself."""
        self.hold(request, len(body))
        client = self._peer if self._forwarded is None else self._forwarded_client()
        refusal = submit(request, body, request.route.endpoint, coding, told, client)
        # Not before, as above.
        self._reading = None
        if refusal is not None:
            self._refuse(request, refusal)

    def _refuse(self, request: HttpRequest, refusal: RefusalLike) -> None:
        """Answer with what the core said at once."""
        if refusal.code == "shutting_down":
            request.need_facts().close = True
            self._taking = False
        request(refusal)

    def _forwarded_client(self) -> str | None:
        return client_of(self._forwarded or {}, self.front.limits.trusted_proxies, self._peer)

    def _answer_call(self, request: HttpRequest, call: Call, body: bytes) -> None:
        """Answer what needs the body, or a thread; the rest is answered by its head."""
        coding = max(self._coding, CODING_UNSPECIFIED)
        if self._query is not None:
            coding = self._query.coding or coding
        if call.blocks:
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(self.front.executor(), call.answer, b"", coding)
            asked.add_done_callback(partial(self._have_answer, request))
        else:
            request.finish(verdict_of_answer(call.answer(body, coding)))
        # Not before: what `answer` raises is answered to the request that is being read.
        self._reading = None

    def _have_answer(self, request: HttpRequest, asked: asyncio.Future[Answer]) -> None:
        if asked.cancelled():
            return
        error = asked.exception()
        if error is not None:
            _log.error("call_failed", route=request.route.name, error=type(error).__name__)
        request.finish(_INTERNAL if error is not None else verdict_of_answer(asked.result()))

    # Heads.

    def _keep(self, kind: int, value: bytes) -> None:
        if kind == http_headers.CONTENT_LENGTH:
            # The parser has checked that it is a number.
            self._content_length = int(value)
        elif kind == http_headers.CONTENT_ENCODING:
            self._coding = content_coding(value)
        elif kind == http_headers.ORIGIN:
            self._origin = value if len(value) <= MAX_MIRRORED_BYTES else None
        elif kind == http_headers.EXPECT:
            # More than what may be expected is something else.
            self._expect = value.strip().lower()[:MAX_MIRRORED_BYTES]
        elif kind in _FORWARDING:
            self._keep_forwarded(kind, value)
        elif kind == http_headers.CONNECTION:
            self._connection_header = True
        elif kind == http_headers.TRANSFER_ENCODING:
            self._transfer_encoding = True
        elif kind == http_headers.IF_NONE_MATCH:
            self._if_none_match = value if len(value) <= MAX_MIRRORED_BYTES else b""
        elif kind == http_headers.REQUESTED_METHOD:
            self._preflight = True
        else:
            self._requested_headers = value if len(value) <= MAX_MIRRORED_BYTES else b""

    def _keep_forwarded(self, kind: int, value: bytes) -> None:
        if self.front.limits.trusted_proxies:
            if self._forwarded is None:
                self._forwarded = {}
            before = self._forwarded.get(kind)
            joined = value if before is None else before + b"," + value
            self._forwarded[kind] = joined[-MAX_FORWARDED_BYTES:]

    def _learn_facts(self, request: HttpRequest, *, close: bool) -> None:
        http_1_0 = self._connection_header and self._parser.get_http_version() == "1.0"
        request_id = self._request_id()
        wanted = http_1_0 or self._origin is not None or request_id is not None
        if not (close or wanted or request.route.ai):
            return
        facts = request.need_facts()
        if request.route.name == EXPORTS:
            kept = self._kept_headers or {}
            facts.export_type = export_type(kept.get(http_headers.CONTENT_TYPE))
        facts.close = close
        facts.http_1_0 = http_1_0
        facts.origin = self._origin
        facts.request_id = request_id

    def _request_id(self) -> bytes | None:
        kept = self._kept_headers
        value = None if kept is None else kept.get(http_headers.REQUEST_ID)
        return value if value is not None and len(value) <= MAX_MIRRORED_BYTES else None

    def _learn_from_head(self, request: HttpRequest) -> None:
        if self._origin is not None:
            request.need_facts().origin = self._origin
        if self._kept_headers is not None:
            route, _ = self.front.find_route(self._url)
            if route.v1:
                request.route = route
                request.need_facts().request_id = self._request_id()

    def _learn_method(self, request: HttpRequest, method: bytes) -> None:
        if method == b"HEAD":
            request.need_facts().head = True
        elif method == b"OPTIONS" and request.facts is not None:
            request.facts.preflight = self._preflight
            request.facts.requested_headers = self._requested_headers
            if request.route.v1:
                request.facts.methods = POST_METHODS
        if self._if_none_match:
            request.need_facts().if_none_match = self._if_none_match

    def _decide_early(self, request: HttpRequest, method: bytes) -> None:
        """Refuse, answer or invite a request by its head alone."""
        oversized = self._oversized_head()
        if oversized is not None:
            self._give_verdict(request, oversized, at_once=True)
            return
        self._learn_method(request, method)
        expects = self._expect is not None and self._parser.get_http_version() != "1.0"
        self._verdict = verdict_of_head(
            self.front,
            request,
            method,
            asterisk=self._url == b"*",
            content_length=self._content_length,
        )
        if self._verdict is None and expects and self._expect != b"100-continue":
            self._verdict = _EXPECTATION_FAILED
        maximum = request.route.max_body_bytes
        if self._content_length > maximum:
            verdict = self._verdict or refused_here("request_too_large")
            small = self._content_length <= maximum + MAX_DISCARDED_BYTES
            self._give_verdict(request, verdict, at_once=expects or not small)
        elif expects and self._verdict is not None:
            # The client waits with its body for this answer, or sends none at all.
            self._give_verdict(request, self._verdict, at_once=True)
        elif expects:
            request.continue_due = True
            if self.pending[0] is request:
                self._send_continue(request)

    def _oversized_head(self) -> Verdict | None:
        if len(self._url) > MAX_URL_BYTES:
            return _URL_TOO_LONG
        if self._header_bytes > MAX_HEADER_BYTES or self._header_count > MAX_HEADERS:
            return _HEADERS_TOO_LARGE
        return None

    def _check_head(self, size: int) -> None:
        """Bound a head that is not complete yet, and count it against the shared budget (LIM-2).

        The parser gathers a header that comes in pieces, without a limit and without a word, so
        that what it was fed counts. Of a read in which another request ended, nobody knows how
        much is this head's: it counts against the budget only.
        """
        if not self._ended:
            self._head_bytes += size
        oversized = self._oversized_head()
        if oversized is None and self._head_bytes > MAX_HEAD_BYTES:
            oversized = _HEADERS_TOO_LARGE
        if oversized is None and not self._count(self._counted_bytes + size):
            oversized = _OVERLOADED
        if oversized is not None:
            self._fail(oversized)

    def _count(self, held_bytes: int) -> bool:
        """Count what is held of the request being read; False: more than all may hold together."""
        front = self.front
        front.receiving_bytes += held_bytes - self._counted_bytes
        self._counted_bytes = held_bytes
        return front.receiving_bytes <= front.limits.max_receiving_bytes

    # Bodies in pieces, and those that are refused.

    def _more_body(self, request: HttpRequest, body: bytes) -> None:
        self._body_bytes += len(body)
        maximum = request.route.max_body_bytes
        if self._verdict is None:
            if self._body_bytes > maximum:
                self._refuse_body(request, refused_here("request_too_large"))
            else:
                self._keep_piece(body)
        if self._body_bytes > maximum + MAX_DISCARDED_BYTES and self._verdict is not None:
            self._give_verdict(request, self._verdict, at_once=True)

    def _keep_piece(self, piece: bytes) -> None:
        pieces = self._pieces
        if pieces is None:
            pieces = self._pieces = [self._body or b""]
        if len(piece) >= LARGE_PIECE_BYTES:
            pieces.append(piece)
            return
        # Chunks of two bytes, each an object of its own, would cost thirty times their size.
        last = pieces[-1]
        if isinstance(last, bytearray):
            last += piece
        else:
            pieces.append(bytearray(piece))

    def _check_body(self, size: int, *, dry: bool) -> None:
        """Bound what follows a body without being one, and count both against the shared budget.

        Trailers are gathered by the parser as headers are. Sizes and extensions of chunks are not,
        but only endless ones come without any body.
        """
        request = self._reading
        if request is None:
            return
        self._dry_bytes = self._dry_bytes + size if dry else 0
        if self._dry_bytes > MAX_HEAD_BYTES:
            self._fail(self._verdict or _HEADERS_TOO_LARGE)
        elif self._verdict is None:
            held_bytes = self._body_bytes + self._dry_bytes
            if self._query is not None:
                held_bytes += len(self._query.data)
            if not self._count(held_bytes):
                self._refuse_body(request, _OVERLOADED)

    def _refuse_body(self, request: HttpRequest, verdict: Verdict) -> None:
        """Drop what came of a body and answer when the rest has passed."""
        self._body = self._pieces = None
        self._give_back_counted()
        self._give_verdict(request, verdict, at_once=False)

    # Where the parser stops.

    def _after_error(self, error: Exception) -> None:
        if isinstance(error, httptools.HttpParserCallbackError):
            # A bug of ours, or of the core: the parser wraps what its callbacks raise.
            _log.exception("request_failed")
            self._fail(_INTERNAL)
        else:
            self._fail(_BAD_REQUEST)

    def _hold_upgrade(self) -> None:
        """Keep a request with a body from being taken as whole: see `http_upgrade`."""
        if self._content_length > 0 or self._transfer_encoding:
            self._upgrading = self._reading
            self._reading = None

    def _after_upgrade(self, data: bytes | memoryview, upgrade: Exception) -> None:
        """Go on after the head or the whole of a request that asked for another protocol."""
        rest = data
        error: Exception = upgrade
        while isinstance(error, httptools.HttpParserUpgrade):
            rest = rest[error.args[0] :]
            self._renew_parser()
            if not self._taking:
                return
            try:
                self._parser.feed_data(rest)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as next_error:
                error = next_error
            else:
                return
        self._after_error(error)

    def _renew_parser(self) -> None:
        request = self._upgrading
        self._upgrading = None
        if request is None:
            self._parser = httptools.HttpRequestParser(self)
            return
        resumed = ResumedBody(self)
        self._parser = httptools.HttpRequestParser(resumed)
        self._parser.feed_data(resumed.head(self._content_length, chunked=self._transfer_encoding))
        if self._taking:
            self._reading = request
