"""The client for asyncio."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType
from typing import Any, Final, Self

import grpc

from penstock.client.errors import AppendError
from penstock.client.messages import Ack, AppendResult, Events, read_response, serialize_request
from penstock.retry_info import DETAILS_KEY, retry_delay_seconds

_METHOD: Final = "/penstock.v1.IngestService/Append"

# Waits before a retry when the server names none: doubled each time, up to what it would name.
_FIRST_RETRY_SECONDS: Final = 0.2
_LAST_RETRY_SECONDS: Final = 10.0
# An answer lists each event that was not simply accepted: 50,000 duplicates take 6 MB, and with
# long details more. gRPC's own limit is 4 MiB, and would turn stored events into an error.
_MAX_ANSWER_BYTES: Final = 64 << 20
# Clients that were refused together don't come back together.
_JITTER: Final = 0.2


class AsyncIngestClient:
    """Appends events over one connection. May be shared by any number of tasks of one loop.

    A batch that was refused with UNAVAILABLE is sent again, byte for byte, after the delay that the
    server asked for. That is safe if the events carry a `uuid`: the server then stores each once.
    Without one, a batch whose answer was lost may be stored twice; set `max_attempts=1` to have the
    decision yourself.
    """

    def __init__(
        self,
        target: str,
        token: str | None = None,
        *,
        timeout_seconds: float = 60.0,
        max_attempts: int = 8,
        channel: Any = None,  # noqa: ANN401 - grpc has no types
    ) -> None:
        """Connect when first used.

        Args:
            target: `host:port` of the server's gRPC listener.
            token: The project's token, sent with every call.
            timeout_seconds: For one `append`, all its attempts together.
            max_attempts: How often a batch is sent at most.
            channel: A `grpc.aio` channel to use instead, for TLS; closed with the client.
        """
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._max_attempts = max_attempts
        options = [("grpc.max_receive_message_length", _MAX_ANSWER_BYTES)]
        self._channel = channel or grpc.aio.insecure_channel(target, options=options)
        self._call = self._channel.unary_unary(_METHOD)

    async def append(
        self, events: Events, *, ack: Ack | None = None, sent_at_unix_ms: int | None = None
    ) -> AppendResult:
        """Send one batch and wait until its events are at the ack level.

        Args:
            events: Events as mappings, or a body in any shape and coding that the server takes.
            ack: What to wait for; None: the server's setting.
            sent_at_unix_ms: The sender's clock, by which the server corrects timestamps.

        Raises:
            AppendError: It was refused for good, or not taken in time.
        """
        # Put together once: a retry is the same bytes.
        request = serialize_request(events, self._token, ack, sent_at_unix_ms)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._call(request, timeout=max(0.001, deadline - loop.time()))
            except grpc.aio.AioRpcError as error:
                wait_seconds = _wait_seconds(error, attempt)
                retryable = error.code() is grpc.StatusCode.UNAVAILABLE
                too_late = loop.time() + wait_seconds >= deadline
                if not retryable or attempt >= self._max_attempts or too_late:
                    raise AppendError(error.code().name, error.details() or "", attempt) from error
                await asyncio.sleep(wait_seconds)
            else:
                return read_response(answer, attempt)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _wait_seconds(error: Any, attempt: int) -> float:  # noqa: ANN401 - grpc has no types
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and (asked := retry_delay_seconds(value)) is not None:
            # Never sooner than asked.
            return asked * (1 + random.random() * _JITTER)  # noqa: S311 - spreads load, no secret
    doubled: float = _FIRST_RETRY_SECONDS * 2 ** (attempt - 1)
    return min(doubled, _LAST_RETRY_SECONDS) * (1 - random.random() * _JITTER)  # noqa: S311 - as above
