"""One HTTP request on its way to an answer; it is the ticket that the core gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.outcomes import outcome_of, refusal_text, whole_request_refused_text
from penstock.transport import http_ai, http_responses, http_v1
from penstock.transport.http_responses import JSON, SUCCESS_BODY, TEXT, is_same

if TYPE_CHECKING:
    from penstock.posthog.static_files import StaticFile
    from penstock.transport.http_connection import HttpConnection
    from penstock.transport.http_routes import Route


class Facts:
    """What a request asks of its answer beyond the common."""

    __slots__ = (
        "close",
        "export_type",
        "head",
        "http_1_0",
        "if_none_match",
        "methods",
        "origin",
        "preflight",
        "request_id",
        "requested_headers",
    )

    def __init__(self) -> None:
        self.close = False
        self.head = False
        self.http_1_0 = False
        self.origin: bytes | None = None
        self.preflight = False
        self.requested_headers = b""
        self.if_none_match = b""
        # Content type of answers to OpenTelemetry.
        self.export_type: bytes | None = None
        # Told to preflights.
        self.methods = b"GET, POST, OPTIONS"
        # Of capture v1; goes back as it came.
        self.request_id: bytes | None = None


class Verdict(NamedTuple):
    """An answer that is decided, in words; `code` is that of the core's table, if it has one."""

    status: int
    body: bytes
    content_type: bytes = TEXT
    retry_after_seconds: int = 0
    allow: bytes = b""
    # More headers, each with its end of line.
    headers: bytes = b""
    etag: bytes = b""
    # Sent behind the body; open, and closed by whoever sends the verdict.
    file: StaticFile | None = None
    code: str = ""


PLAIN: Facts = Facts()


class HttpRequest:
    """One request.

    Attributes:
        route: Where it goes.
        facts: What its answer must heed; None: nothing but the common.
        answer: The whole answer as bytes, once it is decided.
        held_bytes: What is kept for it: the body that was handed to the core, its own answer.
        file: Sent behind the answer.
        beacon: Whether success is 204.
        continue_due: Whether `100 Continue` is owed once it is its turn.
        fully_read: Whether nothing of it is still to come.
        user_agent: Who sends it, by its own word.
    """

    __slots__ = (
        "answer",
        "beacon",
        "continue_due",
        "facts",
        "file",
        "fully_read",
        "held_bytes",
        "protocol",
        "route",
        "user_agent",
    )

    def __init__(self, protocol: HttpConnection, route: Route) -> None:
        self.protocol = protocol
        self.route = route
        self.facts: Facts | None = None
        self.answer: bytes | None = None
        self.held_bytes = 0
        self.file: StaticFile | None = None
        self.beacon = False
        self.continue_due = False
        self.fully_read = False
        self.user_agent: bytes | None = None

    def __call__(self, result: Any) -> None:  # noqa: ANN401 - one of two without a common type
        """Take the result: the core has stored the events at their ack level, or refused (ACK-1).

        `result` is a `SubmitResult`, a `Results` of capture v1, or a `Refusal`; only the first
        counts refused events.
        """
        if getattr(result, "rejected", None) == 0 and self.facts is None and not self.beacon:
            self.route.stored += 1
            self.answer = self.protocol.front.success
            self.protocol.answered(self)
        elif self.route.v1:
            self.finish(verdict_of_v1(result))
        else:
            self.finish(verdict_of(result, beacon=self.beacon))

    def finish(self, verdict: Verdict) -> None:
        """Answer in words."""
        if verdict.status >= 400 and self.route.endpoint:
            self._tell_refused(verdict)
        export_type = None if self.facts is None else self.facts.export_type
        if export_type is not None:
            verdict = _of_export(verdict, export_type)
        elif self.route.v1 and verdict.content_type == TEXT:
            verdict = _as_document(verdict)
        protocol = self.protocol
        front = protocol.front
        facts = self.facts or PLAIN
        file = verdict.file
        if verdict.etag and facts.if_none_match and is_same(facts.if_none_match, verdict.etag):
            verdict = verdict._replace(status=304, body=b"")
        front.count(self.route.name, verdict.status)
        self.answer = http_responses.build(
            verdict, front.date, facts, following_bytes=file.size if file is not None else 0
        )
        if file is not None:
            self._send_file(file, wanted=verdict.status == 200 and not facts.head)
        protocol.hold(self, len(self.answer))
        protocol.answered(self)

    def _tell_refused(self, verdict: Verdict) -> None:
        front = self.protocol.front
        front.refused.add(
            date=front.date,
            route=self.route.name,
            status=verdict.status,
            body_bytes=self.held_bytes,
            user_agent=self.user_agent,
            words=verdict.body,
        )

    def _send_file(self, file: StaticFile, *, wanted: bool) -> None:
        # Of a connection that is lost nobody would send it any more.
        if wanted and self.protocol.transport is not None:
            self.file = file
        else:
            file.close()

    def need_facts(self) -> Facts:
        """Give the facts for writing."""
        if self.facts is None:
            self.facts = Facts()
        return self.facts


STORED = Verdict(200, SUCCESS_BODY, JSON)
STORED_BEACON = Verdict(204, b"", JSON)


def verdict_of(result: Any, *, beacon: bool = False) -> Verdict:  # noqa: ANN401 - as above
    """Turn a result of the core into an answer.

    A request is refused only if nothing of it was taken: SDKs drop whole batches on a 4xx, so one
    bad event never costs its neighbours.
    """
    rejected = getattr(result, "rejected", None)
    if rejected is None:
        return Verdict(
            outcome_of(result.code).http_status,
            result.text.encode(),
            retry_after_seconds=result.retry_after_seconds,
            code=result.code,
        )
    first = result.first_rejection
    if rejected and first is not None and result.accepted + result.duplicates == 0:
        index, code, text = first
        words = whole_request_refused_text(index, code, text)
        return Verdict(outcome_of(code).http_status, words.encode())
    answer = getattr(result, "answer", None)
    if answer is not None:
        return Verdict(200, answer, JSON)
    return STORED_BEACON if beacon else STORED


def _of_export(verdict: Verdict, content_type: bytes) -> Verdict:
    """Tell an answer as OpenTelemetry's protocol does; what the core says is so already."""
    body = verdict.body
    if verdict.content_type == TEXT:
        body = http_ai.error_body(verdict.status, body, content_type)
    return verdict._replace(body=body, content_type=content_type)


def verdict_of_v1(result: Any) -> Verdict:  # noqa: ANN401 - as above
    """Turn a result of the core into an answer of capture v1.

    Also a request of which nothing was taken is 200 there: its events are told apart.
    """
    if not hasattr(result, "body"):
        return verdict_of(result)
    return Verdict(200, result.body, JSON, retry_after_seconds=result.retry_after_seconds)


def _as_document(verdict: Verdict) -> Verdict:
    """Tell an error as capture v1 does, whoever made it."""
    status = http_v1.error_status(verdict.status, verdict.code)
    seconds = http_v1.error_retry_after_seconds(status, verdict.retry_after_seconds)
    document = http_v1.error_document(status, verdict.code, verdict.body.decode())
    return verdict._replace(
        status=status, body=document, content_type=JSON, retry_after_seconds=seconds
    )


def refused_here(code: str, detail: str = "", retry_after_seconds: int = 0) -> Verdict:
    """Make the answer of a refusal that the core is not asked for."""
    words = refusal_text(code, detail).encode()
    status = outcome_of(code).http_status
    return Verdict(status, words, retry_after_seconds=retry_after_seconds, code=code)
