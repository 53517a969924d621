"""The core, for code on an event loop: one per data directory and process.

The core calls no Python. It writes an eventfd when requests are finished; the loop then takes all
of them at once, one wake-up for each commit group, and calls their tickets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from penstock.config import Settings, engine_options, projects_json
from penstock.errors import (
    DataDirectoryError,
    InternalError,
    OverloadedError,
    PenstockError,
    RejectedError,
)
from penstock.logs import logger
from penstock.outcomes import outcome_of

if TYPE_CHECKING:
    from penstock import _core

_log = logger("engine")

FAILED: Final = "failed"
"""State of a core that met a bug: nothing is taken any more, and only a restart helps."""

# Overload, disk and log states in which the core answers 503, though it is `degraded` and not down.
_REFUSING_REASONS: Final = frozenset(
    {"overloaded", "storage_failed", "disk_full", "wal_full", "shutting_down", "starting"}
)


class RefusalLike(Protocol):
    """What the fronts read of `_core.Refusal`."""

    @property
    def code(self) -> str:
        """Code of the table."""

    @property
    def text(self) -> str:
        """What the client reads."""

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds; 0: sending again can't help."""


class SubmitResultLike(Protocol):
    """What the fronts read of `_core.SubmitResult`."""

    @property
    def accepted(self) -> int:
        """Events stored by this request."""

    @property
    def duplicates(self) -> int:
        """Events that were stored before."""

    @property
    def rejected(self) -> int:
        """Events that were refused."""

    @property
    def log_position(self) -> int:
        """Where the record stands in the log."""

    @property
    def first_rejection(self) -> tuple[int, str, str] | None:
        """(index, code, public text) of the first refused event."""


AiHead = tuple[str, str | None, int | None]
"""Of a request of AI events: its `Content-Type`, the token of its `Authorization`, and the client's
clock when it sent."""


class ResultsLike(Protocol):
    """What the fronts read of `_core.Results`."""

    @property
    def body(self) -> bytes:
        """The answer of capture v1, as JSON text."""

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds until something of it may be sent again; 0: nothing is to be."""


V1Headers = tuple[
    bytes | None,
    bytes | None,
    bytes | None,
    bytes | None,
    bytes | None,
    bytes | None,
    bytes | None,
]
"""The headers of capture v1, in the order that `_core.Engine.submit_v1` names."""


class CoreLike(Protocol):
    """The part of `_core.Engine` that requests and the life cycle need."""

    @property
    def completion_fd(self) -> int:
        """Readable when `drain` has something to give."""

    @property
    def in_flight(self) -> int:
        """Requests taken and not yet given back."""

    @property
    def backlog(self) -> tuple[int, int]:
        """(records, bytes) not yet committed to every table."""

    def submit_http(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int,
        sent_at_us: int | None,
        client_address: str | None,
        user_agent: bytes | None = None,
    ) -> RefusalLike | None:
        """Take one HTTP request."""

    def submit_ai(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int,
        head: AiHead,
        client_address: str | None,
    ) -> RefusalLike | None:
        """Take one form of an AI event, or one export of spans."""

    def submit_v1(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int | None,
        headers: V1Headers,
        client_address: str | None,
    ) -> RefusalLike | None:
        """Take one request of capture v1."""

    def submit_append(
        self, ticket: object, message: bytes, metadata_token: str | None, client_address: str | None
    ) -> RefusalLike | None:
        """Take one serialized `AppendRequest`."""

    def drain(self) -> list[tuple[Any, Any]]:
        """Take all finished requests."""

    def start(self, committed: Mapping[str, Mapping[str, int]]) -> None:
        """Start the background and admit requests."""

    def flush(self) -> None:
        """Ask for a cut."""

    def replace_projects(self, projects_json: str) -> None:
        """Put other named projects in place of all."""

    def drain_and_stop_admission(self) -> None:
        """Refuse new requests."""

    def state(self) -> tuple[str, str]:
        """(state, reason)."""

    def metrics(self) -> str:
        """Prometheus text."""

    def log_events(self) -> list[tuple[str, str, dict[str, str]]]:
        """Take what is to be logged."""

    def close(self) -> None:
        """Stop and sync."""


def open_core(settings: Settings) -> _core.Engine:
    """Lock and open the data directory and recover the log. Blocks; may take as long as a replay.

    Raises:
        DataDirectoryError: Unusable, of a newer format, or in use by another process.
        InternalError: Recovery failed.
    """
    from penstock import _core  # noqa: PLC0415 - `penstock config` works without the core

    try:
        return _core.Engine(engine_options(settings))
    except _core.DataDirectoryError as error:
        raise DataDirectoryError(*_code_and_message(error)) from error
    except _core.CoreError as error:
        raise InternalError(": ".join(_code_and_message(error))) from error


def _code_and_message(error: Exception) -> tuple[str, str]:
    code, message = (*map(str, error.args), "", "")[:2]
    return code, message


class Engine:
    """Async façade over one opened core. All methods belong to the loop's thread.

    Attributes:
        core: The core itself, for the fronts' hot path and the committer; at first perhaps one that
            stands in for it, so it is looked up for each use.
    """

    def __init__(self, core: CoreLike) -> None:
        self.core = core
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def adopt(self, core: CoreLike) -> None:
        """Go on with the opened core, instead of the stand-in that refused everything."""
        self._check_process()
        self.core = core

    def start_notifications(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver finished requests on `loop` from now on."""
        self._check_process()
        self._loop = loop
        loop.add_reader(self.core.completion_fd, self.deliver)

    def stop_notifications(self) -> None:
        """Deliver nothing more."""
        if self._loop is not None:
            self._loop.remove_reader(self.core.completion_fd)
            self._loop = None

    def deliver(self) -> None:
        """Call the tickets of all finished requests.

        A ticket that raises is a bug of its front: logged, and the others are delivered.
        """
        for ticket, result in self.core.drain():
            try:
                ticket(result)
            except Exception:  # noqa: BLE001 - the others of the group must be answered (ACK-2)
                _log.exception("ticket_failed")

    async def submit(
        self,
        body: bytes,
        *,
        endpoint: int,
        coding: int = 0,
        sent_at_us: int | None = None,
        client_address: str | None = None,
    ) -> SubmitResultLike:
        """Hand one request body to the core and wait until its events are at the ack level (ACK-1).

        Args:
            body: As received, still compressed. Kept, not copied, until its group is synced.
            endpoint: Number of the endpoint, from `_core.endpoints()`.
            coding: Hint of the content coding; 0: by magic.
            sent_at_us: The client's clock when it sent, microseconds since the Unix epoch.
            client_address: After the proxy rule.

        Raises:
            RejectedError: Nothing of the body could be read, or its token is refused.
            OverloadedError: Nothing was stored; send again after `retry_after_seconds`.
        """
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        refusal = self.submit_http(
            _resolver(waiter), body, endpoint, coding, sent_at_us, client_address
        )
        result: Any = refusal if refusal is not None else await waiter
        if hasattr(result, "retry_after_seconds"):
            raise error_of(result)
        stored: SubmitResultLike = result
        return stored

    def submit_http(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int,
        sent_at_us: int | None,
        client_address: str | None,
        user_agent: bytes | None = None,
    ) -> RefusalLike | None:
        """Take one HTTP request, without a future: `deliver` calls `ticket` with its result.

        A refusal is an answer already, and `ticket` is not called. `user_agent` says of an upload
        of session replay what its snapshots may leave out.
        """
        if os.getpid() != self._pid:
            self._check_process()
        return self.core.submit_http(
            ticket, body, endpoint, coding, sent_at_us, client_address, user_agent
        )

    def submit_ai(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int,
        head: AiHead,
        client_address: str | None,
    ) -> RefusalLike | None:
        """Take one form of an AI event, or one export of spans, as `submit_http`.

        What its client is told on success is in the result: `answer`.
        """
        if os.getpid() != self._pid:
            self._check_process()
        return self.core.submit_ai(ticket, body, endpoint, coding, head, client_address)

    def submit_v1(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int | None,
        headers: V1Headers,
        client_address: str | None,
    ) -> RefusalLike | None:
        """Take one request of capture v1, as `submit_http`: its result is a `Results`."""
        if os.getpid() != self._pid:
            self._check_process()
        return self.core.submit_v1(ticket, body, endpoint, coding, headers, client_address)

    async def append(
        self, message: bytes, *, metadata_token: str | None, client_address: str | None
    ) -> bytes | RefusalLike:
        """Hand one serialized `AppendRequest` to the core.

        Returns:
            A serialized `AppendResponse` once its events are at the ack level (ACK-1), or the
            refusal of the whole request.
        """
        waiter: asyncio.Future[bytes | RefusalLike]
        waiter = asyncio.get_running_loop().create_future()
        self._check_process()
        refusal = self.core.submit_append(
            _resolver(waiter), message, metadata_token, client_address
        )
        return refusal if refusal is not None else await waiter

    def would_accept(self) -> bool:
        """Tell whether a request would be taken now."""
        state, reason = self.core.state()
        return state == "ready" or (state == "degraded" and reason not in _REFUSING_REASONS)

    def flush(self) -> None:
        """Ask for everything durable to be committed to the tables soon; does not wait."""
        self._check_process()
        self.core.flush()

    def replace_projects(self, settings: Settings) -> None:
        """Take the projects of `settings` in place of those that hold, for requests from now on.

        Requests that are decoded already keep the project that they were found to be of.
        """
        self._check_process()
        self.core.replace_projects(projects_json(settings))

    def close(self) -> None:
        """Sync and close the log. Idempotent; does nothing in a forked child."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self.stop_notifications()
        self.core.close()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            message = "the engine was opened before a fork: open it in the process that uses it"
            raise InternalError(message)


def error_of(refusal: RefusalLike) -> PenstockError:
    """Turn the refusal of a whole request into the exception that says the same."""
    if outcome_of(refusal.code).retryable:
        return OverloadedError(refusal.code, refusal.text, refusal.retry_after_seconds)
    return RejectedError(refusal.code, refusal.text)


def _resolver(waiter: asyncio.Future[Any]) -> Callable[[Any], None]:
    def resolve(result: Any) -> None:  # noqa: ANN401 - passed on as it is
        # The caller may have been cancelled meanwhile; its events are stored all the same.
        if not waiter.done():
            waiter.set_result(result)

    return resolve
