"""The gRPC front of a real server, with the real core behind it."""

import asyncio
import gzip
import json
import signal
import time
import uuid

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock._pb.penstock.v1 import ingest_pb2 as pb
from penstock.client import AppendError, AsyncIngestClient
from penstock.retry_info import DETAILS_KEY, retry_delay_seconds
from penstock.transport.grpc import METHOD, SERVICE_NAME

pytestmark = pytest.mark.service

TOKEN = "phc_grpc"


def event(name="appended", **more):
    return {"event": name, "distinct_id": "ada", "properties": {"n": 1}, **more}


def stored(server, name):
    (row,) = server.query(f"SELECT count(*) AS n FROM events WHERE event = '{name}'")
    return row["n"]


async def append(server, request, metadata=()):
    """One call with a request of the test's own making."""
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        call = channel.unary_unary(METHOD, request_serializer=pb.AppendRequest.SerializeToString)
        return pb.AppendResponse.FromString(await call(request, metadata=metadata, timeout=30))


async def refusal(server, request, metadata=()):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await append(server, request, metadata)
    return caught.value.code().name, caught.value.details()


async def test_events_are_stored_and_found_at_once(running_server):
    name = f"disk {uuid.uuid4()}"
    async with AsyncIngestClient(running_server.grpc_target, TOKEN) as client:
        result = await client.append([event(name), event(name)], ack="disk")
    assert (result.reached, result.accepted, result.duplicates) == ("disk", 2, 0)
    assert result.exceptions == ()
    assert result.attempts == 1
    assert stored(running_server, name) == 2


async def test_an_answer_at_table_comes_once_the_rows_are_in_the_table(start):
    server = start(flush_interval_seconds=0.2)
    async with AsyncIngestClient(server.grpc_target, TOKEN) as client:
        result = await client.append([event("tabled")], ack="table")
    assert result.reached == "table"
    # What is in the table survives without the log.
    server.kill()
    import deltalake  # noqa: PLC0415 - takes a second

    table = deltalake.DeltaTable(server.data_dir / "events")
    assert table.to_pyarrow_table(columns=["event"]).to_pylist() == [{"event": "tabled"}]


@pytest.mark.parametrize("coding", [pb.CONTENT_CODING_UNSPECIFIED, pb.CONTENT_CODING_GZIP])
async def test_a_gzip_body_is_read_with_or_without_a_hint(running_server, coding):
    body = gzip.compress(json.dumps([event()]).encode())
    answer = await append(running_server, pb.AppendRequest(token=TOKEN, body=body, coding=coding))
    assert answer.accepted == 1


async def test_what_was_not_simply_accepted_is_listed(running_server):
    known = str(uuid.uuid4())
    bad, again = {"event": "nobody"}, event(uuid=known)
    async with AsyncIngestClient(running_server.grpc_target, TOKEN) as client:
        result = await client.append([event(), bad, again, again])
        later = await client.append([again])
    assert (result.accepted, result.duplicates) == (2, 1)
    listed = [(one.index, one.outcome, one.code) for one in result.exceptions]
    assert listed == [(1, "rejected", "missing_distinct_id"), (3, "duplicate", "")]
    assert (later.accepted, later.duplicates) == (0, 1)
    assert [(one.outcome, one.uuid) for one in later.exceptions] == [("duplicate", known)]


async def test_a_call_of_bad_events_only_is_ok(running_server):
    async with AsyncIngestClient(running_server.grpc_target, TOKEN) as client:
        result = await client.append([{"event": "nobody"}])
    assert (result.accepted, len(result.exceptions)) == (0, 1)


@pytest.mark.parametrize(
    ("request_", "metadata", "status", "text"),
    [
        (
            pb.AppendRequest(body=json.dumps(event()).encode()),
            (),
            "UNAUTHENTICATED",
            "event submitted without an api_key",
        ),
        (
            pb.AppendRequest(token="phx_1", body=b"[]"),
            (),
            "UNAUTHENTICATED",
            "API key is not valid: personal_api_key",
        ),
        (pb.AppendRequest(token=TOKEN), (), "INVALID_ARGUMENT", "request missing data payload"),
        (
            pb.AppendRequest(token=TOKEN, body=b"{"),
            (),
            "INVALID_ARGUMENT",
            "failed to parse request",
        ),
        (
            pb.AppendRequest(token=TOKEN, body=b"[]"),
            [("authorization", "Bearer other")],
            "INVALID_ARGUMENT",
            "request names one api_key in its metadata and another in its body",
        ),
        (
            pb.AppendRequest(token=TOKEN, body=b"[]", ack=pb.ACK_LEVEL_MEMORY),
            (),
            "INVALID_ARGUMENT",
            "this ack level is not allowed by the server",
        ),
    ],
)
async def test_requests_that_cannot_be_read_have_their_status_and_text(
    running_server, request_, metadata, status, text
):
    got, details = await refusal(running_server, request_, metadata)
    assert got == status
    assert details.startswith(text)


async def test_the_token_may_come_as_metadata(running_server):
    name = f"metadata {uuid.uuid4()}"
    request = pb.AppendRequest(body=json.dumps([event(name)]).encode())
    answer = await append(running_server, request, [("authorization", f"Bearer {TOKEN}")])
    assert answer.accepted == 1
    rows = running_server.query(f"SELECT project FROM events WHERE event = '{name}'")
    assert rows == [{"project": TOKEN}]


async def test_a_table_that_does_not_come_is_told_and_the_events_are_stored(start):
    server = start(flush_interval_seconds=3600, table_ack_timeout_seconds=1)
    async with AsyncIngestClient(server.grpc_target, TOKEN) as client:
        with pytest.raises(AppendError) as caught:
            await client.append([event("late")], ack="table")
    assert caught.value.status == "DEADLINE_EXCEEDED"
    assert "on disk, not yet in the table" in caught.value.details
    assert stored(server, "late") == 1


async def health(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE_NAME), timeout=30)
    return answer.status


async def test_health_and_reflection_are_served(running_server):
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: PLC0415

    async with grpc.aio.insecure_channel(running_server.grpc_target) as channel:
        assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE_NAME)
        (answer,) = [one async for one in stub.ServerReflectionInfo(iter([request]))]
    (described,) = answer.file_descriptor_response.file_descriptor_proto
    assert b"AppendRequest" in described


async def test_calls_during_a_stop_are_answered_or_told_when_to_come_back(start):
    server = start()
    sent = 0
    refused: list[grpc.aio.AioRpcError] = []
    request = pb.AppendRequest(token=TOKEN, body=json.dumps([event("drained")]).encode())
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        call = channel.unary_unary(METHOD, request_serializer=pb.AppendRequest.SerializeToString)
        while not refused:
            if sent == 5:
                server.process.send_signal(signal.SIGTERM)
            try:
                await call(request, timeout=30)
                sent += 1
            except grpc.aio.AioRpcError as error:
                refused.append(error)
    assert server.process.wait(40) == 0
    assert refused[0].code() is grpc.StatusCode.UNAVAILABLE
    assert refused[0].details() == "server is shutting down, please retry"
    details = dict(refused[0].trailing_metadata() or ())[DETAILS_KEY]
    assert retry_delay_seconds(details) == 2.0
    assert stored(server, "drained") == sent


async def test_a_call_that_waits_for_the_table_when_the_stop_begins_is_answered(start):
    server = start(flush_interval_seconds=3600, table_ack_timeout_seconds=600)
    began = time.monotonic()
    async with AsyncIngestClient(server.grpc_target, TOKEN) as client:
        waiting = asyncio.ensure_future(client.append([event("waited")], ack="table"))
        while b"in flight: 1" not in server.get_admin("/").body:  # noqa: ASYNC110 - it comes when it does
            await asyncio.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        result = await waiting
    assert (result.reached, result.accepted) == ("table", 1)
    assert server.process.wait(40) == 0
    assert time.monotonic() - began < 20


async def test_many_calls_on_many_connections_are_all_answered(running_server):
    # 8 connections with 16 calls each, at the limit of streams and far past the turns.
    name = f"many {uuid.uuid4()}"
    calls = 8 * 16 * 4
    target = running_server.grpc_target
    clients = [
        AsyncIngestClient(
            target,
            TOKEN,
            max_attempts=1,
            channel=grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]),
        )
        for _ in range(8)
    ]
    padding = "x" * 1000
    events = [event(name, properties={"padding": padding}) for _ in range(50)]

    async def send(client):
        for _ in range(4):
            assert (await client.append(events)).accepted == 50

    await asyncio.gather(*(send(client) for client in clients for _ in range(16)))
    for client in clients:
        await client.close()
    assert stored(running_server, name) == calls * 50
    metrics = running_server.get_admin("/metrics").body.decode()
    assert 'penstock_grpc_requests_total{status="OK"}' in metrics
