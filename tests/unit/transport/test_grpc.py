"""The gRPC front with a core that answers what a test decides, and a real client."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock._pb.penstock.v1 import ingest_pb2 as pb
from penstock.client import AppendError, AsyncIngestClient
from penstock.config import Settings
from penstock.engine import Engine
from penstock.errors import ListenError
from penstock.outcomes import OUTCOMES
from penstock.retry_info import DETAILS_KEY, retry_delay_seconds, status_with_retry
from penstock.transport import grpc as front_module
from penstock.transport import grpc_limits as limits_module
from penstock.transport.grpc import METHOD, GrpcFront, metadata_token, peer_address
from penstock.transport.grpc_limits import (
    LOOKAHEAD_BYTES,
    MAX_STREAMS_PER_CONNECTION,
    MIN_WAITING_CALLS,
    max_message_bytes,
    max_messages_received,
    max_waiting_calls,
)
from penstock.transport.grpc_turns import Turns
from support.fake_core import FakeRefusal
from support.h2 import RawConnection, message_head

RESPONSE = pb.AppendResponse(log_position=7, reached=pb.ACK_LEVEL_DISK, accepted=1)


class Core:
    """Answers each append with the next of `answers`."""

    def __init__(self) -> None:
        self.answers: list[object] = []
        self.seen: list[tuple[bytes, str | None, str | None]] = []
        self.later: FakeRefusal | None = None
        self.now = ("ready", "")

    def submit_append(self, ticket, message, token, address):
        self.seen.append((message, token, address))
        answer = self.answers.pop(0) if self.answers else RESPONSE.SerializeToString()
        if self.later is not None:
            asyncio.get_running_loop().call_soon(ticket, self.later)
            return None
        if isinstance(answer, FakeRefusal):
            return answer
        asyncio.get_running_loop().call_soon(ticket, answer)
        return None

    def state(self):
        return self.now


class Served:
    def __init__(self, core: Core, front: GrpcFront, address: str) -> None:
        self.core = core
        self.front = front
        self.address = address
        self.channel = grpc.aio.insecure_channel(address)

    async def append(self, message: bytes = b"", metadata=()) -> bytes:
        call = self.channel.unary_unary(METHOD)
        return bytes(await call(message, metadata=metadata, timeout=10))


SETTINGS = Settings(grpc="127.0.0.1:0", max_request_bytes=1000)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    core = Core()
    front = GrpcFront(Engine(core), SETTINGS)  # type: ignore[arg-type]
    served = Served(core, front, await front.start())
    yield served
    await served.channel.close()
    await front.stop(0)


async def failure(served: Served, message: bytes = b"", metadata=()) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.append(message, metadata)
    return caught.value


async def test_message_goes_to_the_core_as_it_came(served: Served) -> None:
    assert await served.append(b"\xff\x00any bytes") == RESPONSE.SerializeToString()
    assert served.core.seen == [(b"\xff\x00any bytes", None, "127.0.0.1")]


async def test_token_of_the_metadata_goes_along(served: Served) -> None:
    await served.append(metadata=[("authorization", "Bearer abc")])
    assert served.core.seen[0][1] == "abc"


async def test_other_authorization_is_unauthenticated(served: Served) -> None:
    error = await failure(served, metadata=[("authorization", "Basic abc")])
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert error.details() == "API key is not valid: authorization must be: Bearer <token>"
    assert served.core.seen == []


@pytest.mark.parametrize("code", sorted(OUTCOMES))
async def test_refusal_has_the_status_of_its_code(served: Served, code: str) -> None:
    outcome = OUTCOMES[code]
    served.core.answers = [FakeRefusal(code, "why: detail", 3 if outcome.retryable else 0)]
    error = await failure(served)
    assert error.code().name == outcome.grpc_status
    assert error.details() == "why: detail"
    details = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    delay = None if details is None else retry_delay_seconds(details)
    assert delay == (3.0 if outcome.retryable else None)


async def test_refusal_that_comes_later_is_told_alike(served: Served) -> None:
    # Unlike one that the core gives at once, this one comes back through the ticket.
    served.core.later = FakeRefusal("storage_failed", "later", 1)
    assert (await failure(served)).code() is grpc.StatusCode.UNAVAILABLE


async def test_message_at_the_limit_passes_and_one_byte_more_does_not(served: Served) -> None:
    limit = SETTINGS.max_request_bytes + (64 << 10)
    await served.append(bytes(limit))
    error = await failure(served, bytes(limit + 1))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def one_turn(patience_seconds: float = 60, max_waiting: int = 100) -> Turns:
    return Turns(1, max_waiting=max_waiting, patience_seconds=patience_seconds, longest_seconds=60)


async def until_all_turns_are_taken(served: Served) -> None:
    while served.front._turns.free:  # noqa: ASYNC110 - the call arrives when it does
        await asyncio.sleep(0.001)


async def test_messages_are_received_a_few_at_a_time_and_each_has_its_turn(served: Served) -> None:
    # With one turn, 50 calls at once; each message is larger than what may come unasked.
    served.front._turns = one_turn()
    limit = SETTINGS.max_request_bytes + (64 << 10)
    await asyncio.gather(*(served.append(bytes(limit)) for _ in range(50)))
    assert len(served.core.seen) == 50
    assert served.front._turns.free == 1
    assert served.front.calls == 0


async def test_a_slow_sender_gives_way_and_is_told_to_come_back(served: Served) -> None:
    served.front._turns = one_turn(patience_seconds=0.05)
    silent = served.channel.stream_unary(METHOD)(timeout=10)
    await until_all_turns_are_taken(served)
    await served.append(b"of another")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await silent
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert DETAILS_KEY in dict(caught.value.trailing_metadata() or ())
    assert served.core.seen == [(b"of another", None, "127.0.0.1")]


async def test_calls_above_those_that_may_wait_are_told_to_come_back(served: Served) -> None:
    served.front._turns = one_turn(max_waiting=0)
    silent = served.channel.stream_unary(METHOD)(timeout=10)
    await until_all_turns_are_taken(served)
    error = await failure(served)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert DETAILS_KEY in dict(error.trailing_metadata() or ())
    silent.cancel()


async def test_a_call_without_a_message_is_refused(served: Served) -> None:
    call = served.channel.stream_unary(METHOD)(timeout=10)
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_cancelled_call_gives_its_turn_back(served: Served) -> None:
    served.front._turns = one_turn()
    silent = served.channel.stream_unary(METHOD)(timeout=10)
    await until_all_turns_are_taken(served)
    silent.cancel()
    await served.append(b"next")
    assert served.front._turns.free == 1


async def test_answers_that_are_not_read_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "MAX_UNSENT_BYTES", 3_000_000)
    async with unread(answers=10) as (front, reader):
        while sum(front.request_counts().values()) < 10:
            reader.pump()
            await asyncio.sleep(0.001)
        assert front.request_counts() == {"OK": 4, "UNAVAILABLE": 6}
        assert front.unsent_bytes == 4_000_000
        reader.close()
        await nothing_is_unsent(front)


async def test_answers_that_are_not_read_end_with_their_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits_module, "MAX_CONNECTION_AGE_MS", 300)
    monkeypatch.setattr(limits_module, "AGE_GRACE_MS", 300)
    async with unread(answers=1) as (front, reader):
        # However long the answer took: without the age the connection would stay.
        while not reader.closed:
            reader.pump()
            await asyncio.sleep(0.01)
        await nothing_is_unsent(front)


async def nothing_is_unsent(front: GrpcFront) -> None:
    for _ in range(5000):
        if front.unsent_bytes == 0:
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"{front.unsent_bytes} bytes are still counted")


@contextlib.asynccontextmanager
async def unread(answers: int) -> AsyncIterator[tuple[GrpcFront, RawConnection]]:
    """Ask for answers of a megabyte, of which the client takes a thousand bytes each."""
    core = Core()
    settings = Settings(grpc="127.0.0.1:0", table_ack_timeout_seconds=0)
    front = GrpcFront(Engine(core), settings)  # type: ignore[arg-type]
    host, _, port = (await front.start()).rpartition(":")
    core.answers = [bytes(1_000_000)] * answers
    reader = RawConnection((host, int(port)), answer_window=1000)
    try:
        for _ in range(answers):
            stream = reader.open(METHOD)
            reader.send(stream, message_head(0))
        yield front, reader
    finally:
        reader.close()
        await front.stop(0)


async def test_a_compressed_message_is_not_decompressed(served: Served) -> None:
    # gRPC would do it before anyone has looked at it; bodies have codings of their own.
    call = served.channel.unary_unary(METHOD)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(bytes(60_000), compression=grpc.Compression.Gzip, timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert served.core.seen == []


async def test_calls_are_told_to_come_back_once_the_drain_begins(served: Served) -> None:
    served.front.begin_drain()
    error = await failure(served)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "server is shutting down, please retry"
    details = dict(error.trailing_metadata() or ())[DETAILS_KEY]
    assert retry_delay_seconds(details) == 2.0
    assert served.front.request_counts() == {"UNAVAILABLE": 1}


async def test_port_in_use_is_an_error_that_names_it(served: Served) -> None:
    second = GrpcFront(Engine(Core()), Settings(grpc=served.address))  # type: ignore[arg-type]
    with pytest.raises(ListenError, match=served.address):
        await second.start()


async def health(served: Served) -> int:
    stub = health_pb2_grpc.HealthStub(served.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=front_module.SERVICE_NAME))
    return int(answer.status)


async def test_health_follows_what_the_core_would_accept(served: Served) -> None:
    told = health_pb2.HealthCheckResponse
    assert await health(served) == told.SERVING
    served.core.now = ("draining", "")
    await served.front.tell_health()
    assert await health(served) == told.NOT_SERVING
    served.core.now = ("ready", "")
    await served.front.tell_health()
    assert await health(served) == told.SERVING
    served.front.begin_drain()
    await served.front.tell_health()
    assert await health(served) == told.NOT_SERVING


async def test_reflection_names_the_service(served: Served) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: PLC0415

    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert "penstock.v1.IngestService" in names


async def test_client_sends_events_and_reads_the_outcomes(served: Served) -> None:
    answer = pb.AppendResponse(
        log_position=9,
        reached=pb.ACK_LEVEL_TABLE,
        accepted=1,
        exceptions=[
            pb.EventOutcome(index=1, outcome=pb.OUTCOME_REJECTED, code="missing_distinct_id")
        ],
    )
    served.core.answers = [answer.SerializeToString()]
    async with AsyncIngestClient(served.address, "t") as client:
        result = await client.append([{"event": "é"}], ack="table", sent_at_unix_ms=5)
    request = pb.AppendRequest.FromString(served.core.seen[0][0])
    assert json.loads(request.body) == {"batch": [{"event": "é"}]}
    assert (request.token, request.ack, request.sent_at_unix_ms) == ("t", pb.ACK_LEVEL_TABLE, 5)
    assert (result.log_position, result.reached, result.accepted) == (9, "table", 1)
    assert (result.exceptions[0].index, result.exceptions[0].outcome) == (1, "rejected")


async def test_client_takes_an_answer_that_lists_every_event(served: Served) -> None:
    # Past gRPC's own limit of 4 MiB: 50,000 duplicates take 6 MB.
    exceptions = [
        pb.EventOutcome(index=index, outcome=pb.OUTCOME_DUPLICATE, uuid="0" * 36, detail="d" * 60)
        for index in range(50_000)
    ]
    answer = pb.AppendResponse(duplicates=50_000, exceptions=exceptions).SerializeToString()
    assert len(answer) > 4 << 20
    served.core.answers = [answer]
    async with AsyncIngestClient(served.address, "t") as client:
        assert len((await client.append([])).exceptions) == 50_000


async def test_client_sends_the_same_bytes_again_after_the_delay_it_was_given(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    served.core.answers = [FakeRefusal("overloaded", "busy", 2), FakeRefusal("starting", "wait", 1)]
    async with AsyncIngestClient(served.address, "t") as client:
        monkeypatch.setattr("penstock.client.aio.asyncio.sleep", sleep)
        result = await client.append(b"{}")
    assert result.attempts == 3
    assert len({message for message, _, _ in served.core.seen}) == 1
    asked = [wait for wait in waits if wait >= 1]
    assert 2 <= asked[0] <= 2.4
    assert 1 <= asked[1] <= 1.2


async def test_client_gives_up_on_what_retrying_cannot_help(served: Served) -> None:
    served.core.answers = [FakeRefusal("invalid_json", "failed to parse", 0)]
    async with AsyncIngestClient(served.address, "t") as client:
        with pytest.raises(AppendError) as caught:
            await client.append(b"{")
    assert (caught.value.status, caught.value.attempts) == ("INVALID_ARGUMENT", 1)


async def test_client_gives_up_when_the_next_try_would_be_too_late(served: Served) -> None:
    served.core.answers = [FakeRefusal("overloaded", "busy", 10)]
    async with AsyncIngestClient(served.address, "t", timeout_seconds=5) as client:
        with pytest.raises(AppendError) as caught:
            await client.append(b"{}")
    assert caught.value.status == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        ([], None),
        ([("other", "Bearer x")], None),
        ([("authorization", "bearer  x ")], "x"),
        ([("authorization", "Bearer x"), ("authorization", "Bearer x")], "x"),
    ],
)
def test_bearer_token_is_found(metadata, token: str | None) -> None:
    assert metadata_token(metadata) == token


@pytest.mark.parametrize("values", [["Bearer"], ["Bearer "], ["Basic x"], ["Bearer x", "Bearer y"]])
def test_other_authorizations_are_refused(values: list[str]) -> None:
    with pytest.raises(ValueError, match="authorization"):
        metadata_token([("authorization", value) for value in values])


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:[::1]:5000", "::1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("unix:/tmp/socket", None),
    ],
)
def test_address_of_the_peer_is_found(peer: str, address: str | None) -> None:
    assert peer_address(peer) == address


@pytest.mark.parametrize("details", [b"", b"\xff", b"\x1a\x7f", b"\x08\x0e", b"\x0b"])
def test_details_that_hold_no_delay_are_passed_by(details: bytes) -> None:
    assert retry_delay_seconds(details) is None


def test_delay_reads_back() -> None:
    assert retry_delay_seconds(status_with_retry(14, "é" * 200, 1.5)) == 1.5


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(max_in_flight_bytes=1 << 30),
        Settings(max_in_flight_bytes=64 << 20, max_request_bytes=1 << 20),
    ],
)
def test_what_is_received_fits_into_the_budget(settings: Settings) -> None:
    received = max_messages_received(settings) * max_message_bytes(settings)
    waiting = max_waiting_calls(settings) * LOOKAHEAD_BYTES
    assert received + 2 * waiting <= settings.max_in_flight_bytes
    # All of 8 connections with 16 calls each, at once.
    assert max_waiting_calls(settings) >= 8 * MAX_STREAMS_PER_CONNECTION


def test_a_small_budget_still_leaves_one_message_and_a_few_calls() -> None:
    settings = Settings(max_in_flight_bytes=1 << 20, max_request_bytes=1 << 20)
    assert (max_messages_received(settings), max_waiting_calls(settings)) == (1, MIN_WAITING_CALLS)
