"""A request beside capture and its answer, as this room and the front speak of them."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.outcomes import outcome_of, refusal_text

if TYPE_CHECKING:
    from penstock.posthog.static_files import StaticFile

JSON: Final = b"application/json"
JAVASCRIPT: Final = b"text/javascript; charset=utf-8"
TEXT: Final = b"text/plain; charset=utf-8"

GET: Final = (b"GET", b"HEAD", b"OPTIONS")
POST: Final = (b"POST", b"OPTIONS")
GET_AND_POST: Final = (b"GET", b"HEAD", b"POST", b"OPTIONS")
POST_AND_DELETE: Final = (b"POST", b"DELETE", b"OPTIONS")


class Answer(NamedTuple):
    """What is answered.

    Attributes:
        status: 200, or the status of a refusal.
        body: The answer, or what stands before `file`.
        content_type: Of both together.
        etag: What a client may ask by whether its copy is still good; empty: it can't.
        cache_control: How long a copy may be used; empty: nothing is said.
        file: What follows `body`, open; whoever takes the answer closes it.
        retry_after_seconds: Whole seconds; 0: no such header.
    """

    status: int
    body: bytes
    content_type: bytes = JSON
    etag: bytes = b""
    cache_control: bytes = b""
    file: StaticFile | None = None
    retry_after_seconds: int = 0


class Call:
    """One request, as far as its URL tells it. All bodies but those of flags are let pass unread.

    Attributes:
        name: Label in metrics, from a closed set.
        methods: What it takes.
        blocks: Whether `answer` waits for a disk and runs on a thread; its body does not matter.
        options_status: Of the answer to OPTIONS.
        max_body_bytes: Largest body that `answer` takes.
    """

    name: str
    methods: tuple[bytes, ...] = GET
    blocks = False
    options_status = 200
    max_body_bytes = 0

    def by_head(self, method: bytes) -> Answer | None:
        """Answer by method and URL; None: only `answer` can."""
        raise NotImplementedError

    def answer(self, body: bytes, coding: int) -> Answer:
        """Answer when the request is whole.

        Args:
            body: As received, still coded.
            coding: Number of its coding, as its head tells it; 0: not at all.
        """
        raise NotImplementedError


class FixedCall(Call):
    """A call whose answer is there already."""

    def __init__(self, name: str, methods: tuple[bytes, ...], answer: Answer) -> None:
        self.name = name
        self.methods = methods
        self._answer = answer

    def by_head(self, method: bytes) -> Answer:  # noqa: ARG002 - the same for all
        """Give it."""
        return self._answer


def refused(code: str, status: int = 0) -> Answer:
    """Refuse in the words of the code table.

    Args:
        code: Of the table.
        status: Where the protocol has another than captures have.
    """
    return Answer(status or outcome_of(code).http_status, refusal_text(code).encode(), TEXT)


def etag_of(body: bytes) -> bytes:
    """Make the tag of a body: another one for every other body."""
    return b'"%s"' % sha256(body).hexdigest()[:32].encode()
