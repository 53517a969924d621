"""The gRPC front: serialized messages in, serialized messages or a status out.

Messages are not decoded here: the core reads them under the same limits as a body over HTTP. The
API stands in `proto/penstock/v1/ingest.proto`. Its method is unary; here it is served as one that
takes a stream, which is the same on the wire, so that a message is received only when there is room
for it: see `grpc_limits`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import unquote

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from penstock._pb.penstock.v1 import ingest_pb2
from penstock.config import split_address
from penstock.errors import ListenError
from penstock.logs import logger
from penstock.outcomes import outcome_of, refusal_text
from penstock.retry_info import DETAILS_KEY, status_with_retry
from penstock.transport.bearer import bearer_token
from penstock.transport.grpc_limits import (
    HEALTH_SECONDS,
    LARGE_ANSWER_BYTES,
    MAX_UNSENT_BYTES,
    MESSAGE_SECONDS,
    PATIENCE_SECONDS,
    channel_options,
    max_messages_received,
    max_waiting_calls,
)
from penstock.transport.grpc_turns import TooManyWaitError, Turns

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.engine import Engine, RefusalLike

_log = logger("grpc")

SERVICE_NAME: Final = ingest_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name
METHOD: Final = f"/{SERVICE_NAME}/Append"

# Retryable refusals that name no delay of their own.
_DEFAULT_RETRY_SECONDS: Final = 1
# As the core says it: a restart is mostly over by then.
_DRAIN_RETRY_SECONDS: Final = 2


class GrpcFront:
    """The gRPC listener. Runs on the loop that it is started on.

    Attributes:
        calls: Appends that wait for their turn, their message or their answer.
        unsent_bytes: Large answers that their clients have not taken yet.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._turns = Turns(
            max_messages_received(settings),
            max_waiting=max_waiting_calls(settings),
            patience_seconds=PATIENCE_SECONDS,
            longest_seconds=MESSAGE_SECONDS,
        )
        self._server: Any = None
        self._health = HealthServicer()
        self._health_task: asyncio.Task[None] | None = None
        self._draining = False
        self.calls = 0
        self.unsent_bytes = 0
        self._counts: dict[str, int] = {}

    async def start(self) -> str:
        """Listen on `settings.grpc`.

        Returns:
            The real address; a port of 0 has become the one that was free.

        Raises:
            ListenError: It can't be listened on.
        """
        address = self._settings.grpc
        host, _ = split_address(address)
        server = grpc.aio.server(options=channel_options(self._settings))
        handler = grpc.stream_unary_rpc_method_handler(self._append)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE_NAME, {"Append": handler}),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection(
            (SERVICE_NAME, health_name, reflection.SERVICE_NAME), server
        )
        try:
            real_port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ListenError("grpc", address, str(error)) from error
        if real_port == 0:
            raise ListenError("grpc", address, "the port is in use or the address not ours")
        await server.start()
        self._server = server
        await self.tell_health()
        self._health_task = asyncio.create_task(self._watch_health())
        shown = f"[{host}]" if ":" in host else host
        return f"{shown}:{real_port}"

    def begin_drain(self) -> None:
        """Tell health checks not to send more; calls still get their answers or UNAVAILABLE."""
        self._draining = True

    async def stop(self, grace: float) -> None:
        """Stop listening; calls that wait get `grace` seconds to end."""
        self._draining = True
        if self._health_task is not None:
            self._health_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._health_task
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace)
            self._server = None

    def request_counts(self) -> dict[str, int]:
        """Count answered calls by the name of their status."""
        return dict(self._counts)

    async def _append(self, _messages: object, context: Any) -> bytes:  # noqa: ANN401 - grpc has no types
        self.calls += 1
        try:
            return await self._answer(context)
        finally:
            self.calls -= 1

    async def _answer(self, context: Any) -> bytes:  # noqa: ANN401 - as above
        try:
            token = metadata_token(context.invocation_metadata() or ())
        except ValueError as error:
            await self._refuse_here(context, "invalid_token", str(error))
        if self._draining:
            # The core would say the same, but only once the message has come.
            await self._refuse_here(context, "shutting_down", "", _DRAIN_RETRY_SECONDS)
        message = await self._receive(context)
        if self.unsent_bytes > MAX_UNSENT_BYTES:
            await self._refuse_here(context, "overloaded", "clients leave their answers unread")
        result = await self._engine.append(
            message, metadata_token=token, client_address=peer_address(context.peer())
        )
        if isinstance(result, bytes):
            self._count("OK")
            if len(result) > LARGE_ANSWER_BYTES:
                self._hold_until_sent(len(result))
            return result
        return await self._refuse_by(context, result)

    def _hold_until_sent(self, size: int) -> None:
        """Count an answer until this call's task, which sends it next, has ended."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - every call is one
        self.unsent_bytes += size

        def sent(_: object) -> None:
            self.unsent_bytes -= size

        task.add_done_callback(sent)

    async def _receive(self, context: Any) -> bytes:  # noqa: ANN401 - as above
        try:
            async with self._turns.turn(context.peer()):
                message: object = await context.read()
        except TimeoutError:
            await self._refuse_here(context, "overloaded", "the message came too slowly")
        except TooManyWaitError:
            await self._refuse_here(context, "overloaded", "too many calls at once")
        if not isinstance(message, bytes):
            # The client ended its side without any.
            await self._refuse_here(context, "invalid_message", "there is none")
        return message

    async def _refuse_by(self, context: Any, refusal: RefusalLike) -> NoReturn:  # noqa: ANN401 - as above
        await self._refuse(context, refusal.code, refusal.text, refusal.retry_after_seconds)

    async def _refuse_here(
        self,
        context: Any,  # noqa: ANN401 - as above
        code: str,
        detail: str,
        retry_after_seconds: int = 0,
    ) -> NoReturn:
        await self._refuse(context, code, refusal_text(code, detail), retry_after_seconds)

    async def _refuse(
        self,
        context: Any,  # noqa: ANN401 - as above
        code: str,
        text: str,
        retry_after_seconds: int,
    ) -> NoReturn:
        outcome = outcome_of(code)
        self._count(outcome.grpc_status)
        status = grpc.StatusCode[outcome.grpc_status]
        trailing: tuple[tuple[str, str | bytes], ...] = ()
        if outcome.retryable:
            delay = retry_after_seconds or _DEFAULT_RETRY_SECONDS
            trailing = ((DETAILS_KEY, status_with_retry(status.value[0], text, delay)),)
        await context.abort(status, text, trailing)
        raise AssertionError("abort raises")

    def _count(self, status: str) -> None:
        self._counts[status] = self._counts.get(status, 0) + 1

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            await self.tell_health()

    async def tell_health(self) -> None:
        """Tell health checks now what they would be told within a second."""
        serving = not self._draining and self._engine.would_accept()
        told = health_pb2.HealthCheckResponse
        status = told.SERVING if serving else told.NOT_SERVING
        for service in ("", SERVICE_NAME):
            await self._health.set(service, status)


def metadata_token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Take the token out of `authorization: Bearer …`; None if there is none.

    Raises:
        ValueError: There are several that differ, or one of another scheme.
    """
    token: str | None = None
    for key, value in metadata:
        if key != "authorization" or not isinstance(value, str):
            continue
        found = bearer_token(value)
        if found is None:
            raise ValueError("authorization must be: Bearer <token>")
        if token not in (None, found):
            raise ValueError("two authorizations that differ")
        token = found
    return token


def peer_address(peer: str) -> str | None:
    """Take the IP address out of gRPC's name of a peer; None for Unix sockets."""
    kind, _, rest = peer.partition(":")
    if kind == "ipv4":
        return rest.rpartition(":")[0]
    if kind == "ipv6":
        # `ipv6:[::1]:5000`, with the brackets percent-encoded by some versions, or a scope in it.
        return unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    return None
