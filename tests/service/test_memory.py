"""What strangers may make the server hold: half-sent requests of both fronts."""

import socket
import threading
import time

import grpc
import pytest

from penstock._pb.penstock.v1 import ingest_pb2 as pb
from penstock.transport.grpc import METHOD
from penstock.transport.grpc_limits import LOOKAHEAD_BYTES, MAX_CONNECTIONS
from support.h2 import RawConnection, message_head
from support.http import read_response

pytestmark = pytest.mark.service

MIB = 1 << 20
# The budget of each front for what it receives, and what it may cost to keep that: partly filled
# read buffers, the joining of one message.
BUDGET_BYTES = 64 * MIB
OVERHEAD_BYTES = 48 * MIB
# Nothing that can be sent is left once so much time has passed without any progress.
QUIET_SECONDS = 1.5


def send_what_is_taken(connections, streams, size):
    """Open calls and send their messages, all but the last byte, as far as the server lets us."""
    calls = []
    for connection in connections:
        for _ in range(streams):
            stream = connection.open(METHOD)
            connection.send(stream, message_head(size))
            calls.append((connection, stream))
    left = dict.fromkeys(calls, size - 1)
    piece = bytes(64 << 10)
    total, moved_at = 0, time.monotonic()
    while time.monotonic() - moved_at < QUIET_SECONDS:
        for connection in connections:
            connection.pump()
        moved = 0
        for connection, stream in calls:
            sent = connection.send(stream, piece[: left[connection, stream]])
            left[connection, stream] -= sent
            moved += sent
        if moved:
            total += moved
            moved_at = time.monotonic()
        else:
            threading.Event().wait(0.002)
    return total


def get_through(server, connections):
    """Append one event as any client does, while the others are kept alive."""
    body = b'[{"event": "through", "distinct_id": "ada"}]'
    request = pb.AppendRequest(token="phc_memory", body=body).SerializeToString()
    with grpc.insecure_channel(server.grpc_target) as channel:
        call = channel.unary_unary(METHOD).future(request, timeout=50)
        while not call.done():
            for connection in connections:
                connection.pump()
            threading.Event().wait(0.02)
        return pb.AppendResponse.FromString(call.result())


def test_half_sent_grpc_messages_are_bounded_and_others_still_get_through(start):
    # One connection with 128 streams of 8 MiB once took a gigabyte.
    server = start(max_in_flight_bytes=BUDGET_BYTES)
    server.forget_peak_memory()
    before = server.peak_memory_bytes()
    connections = [RawConnection(server.grpc) for _ in range(4)]
    try:
        total = send_what_is_taken(connections, streams=128, size=8 * MIB)
        grown = server.peak_memory_bytes() - before
        # The server took what it has room for, so the bound was put to the test.
        assert total > 4 * 16 * LOOKAHEAD_BYTES
        assert grown < BUDGET_BYTES + OVERHEAD_BYTES
        assert {connection.max_streams for connection in connections} == {16}
        # Those that send no more have the only turn; each has to give way to the next.
        assert get_through(server, connections).accepted == 1
        assert server.peak_memory_bytes() - before < BUDGET_BYTES + OVERHEAD_BYTES
    finally:
        for connection in connections:
            connection.close()


def test_connections_above_the_limit_of_grpc_are_closed(start):
    server = start()
    connections = [RawConnection(server.grpc) for _ in range(MAX_CONNECTIONS + 8)]
    for _ in range(500):
        for connection in connections:
            connection.pump()
        if sum(connection.closed for connection in connections) == 8:
            break
        threading.Event().wait(0.01)
    assert sum(connection.closed for connection in connections) == 8
    for connection in connections:
        connection.close()


HEAD = b"POST /batch HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("start_of_request", "status"),
    [
        # A body, its trailers, a head, and a head that came in one read with a whole request.
        (HEAD + b"Content-Length: 8388608\r\n\r\n" + bytes(8 * MIB - 1), 503),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * MIB, 431),
        (HEAD + b"X: " + b"x" * MIB, 431),
        (HEAD + b"Content-Length: 2\r\n\r\n{}" + HEAD + b"X: " + b"x" * 60_000, None),
    ],
    ids=["body", "trailers", "head", "second head"],
)
def test_half_sent_http_requests_are_bounded(start, start_of_request, status):
    server = start(max_in_flight_bytes=BUDGET_BYTES)
    server.forget_peak_memory()
    before = server.peak_memory_bytes()
    connections = [socket.create_connection(server.http, timeout=30) for _ in range(64)]
    senders = [
        threading.Thread(target=send_quietly, args=(connection, start_of_request))
        for connection in connections
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    grown = server.peak_memory_bytes() - before
    assert grown < BUDGET_BYTES + OVERHEAD_BYTES
    if status == 431:
        with connections[0].makefile("rb") as stream:
            assert read_response(stream).status == status
    for connection in connections:
        connection.close()
    assert server.post_json("/e", {"api_key": "k", "event": "e", "distinct_id": "d"}).status == 200


def send_quietly(connection, data):
    try:
        connection.sendall(data)
    except OSError:
        # It was refused and closed meanwhile.
        return
