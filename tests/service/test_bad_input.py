"""Input that is wrong or hostile: what it is told, and that it costs nobody else anything."""

import gzip
import json
import socket
import struct
import uuid
import zlib

import pytest

from support.http import read_response, request_bytes

pytestmark = pytest.mark.service

MIB = 1 << 20
OK = b'{"status":"Ok"}'
# What a server may hold for bodies up to 20 MiB decompressed, and for larger ones (README).
SMALL_BODIES_BYTES = 300_000_000
LARGE_BODIES_BYTES = 450_000_000


def event(name="good", **more):
    return {"event": name, "distinct_id": "ada", "properties": {"n": 1}, **more}


def batch(*events):
    return json.dumps({"api_key": "phc_bad", "batch": events}).encode()


def nested(levels):
    return "[" * levels + "]" * levels


def zeros_in_gzip(size):
    """Compress zeros: one MiB, which is flushed so that it can stand any number of times.

    All of a GiB takes zlib five seconds, and minutes where others compute: longer than a test may.
    """
    piece, count = bytes(MIB), size // MIB
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    compressed = compressor.compress(piece) + compressor.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(count):
        checksum = zlib.crc32(piece, checksum)
    # RFC 1952: no name, no time; then the checksum and the size.
    head = bytes.fromhex("1f8b08000000000002ff")
    foot = struct.pack("<II", checksum, size)
    return head + compressed * count + compressor.flush() + foot


class Client:
    """One connection that is used again and again."""

    def __init__(self, address):
        self._socket = socket.create_connection(address, timeout=60)
        self._stream = self._socket.makefile("rb")

    def post(self, body, *headers):
        length = ("Content-Length", str(len(body)))
        self._socket.sendall(
            request_bytes("POST", "/batch", [("Host", "x"), length, *headers], body)
        )
        response = read_response(self._stream)
        return response.status, response.body.decode()

    def close(self):
        self._stream.close()
        self._socket.close()


@pytest.fixture
def client(running_server):
    running_server.forget_peak_memory()
    opened = Client(running_server.http)
    yield opened
    # HTTP allows it after each of these: the request was read to its end.
    assert opened.post(batch(event())) == (200, OK.decode())
    opened.close()


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "request missing data payload"),
        (b"not json", 400, "failed to parse request"),
        (batch(event())[:-3], 400, "failed to parse request"),
        (b"\xff\xfe\x00", 400, "failed to parse request"),
        (b"\x1f\x8b\x08\x00not gzip", 400, "failed to decode request: invalid GZIP data"),
        (
            gzip.compress(batch(event()), mtime=0)[:-9],
            400,
            "failed to decode request: invalid GZIP data",
        ),
        (gzip.compress(b"", mtime=0), 400, "request missing data payload"),
        (b"7", 400, "failed to parse request: expected an event"),
        (b'{"api_key":"phc_bad","batch":[]}', 400, "request holds no event"),
        (b'[{"event":"a","distinct_id":"b"}]', 401, "event submitted without an api_key"),
    ],
)
def test_unreadable_requests_are_told_why_and_the_connection_stays(client, body, status, text):
    got, words = client.post(body)
    assert got == status
    assert words.startswith(text)


def test_gzip_in_name_only_is_read_as_what_it_is(client):
    # SDKs and proxies mislabel bodies; what the bytes are decides.
    assert client.post(batch(event()), ("Content-Encoding", "gzip"))[0] == 200


def test_a_bomb_is_refused_without_being_unpacked(running_server, client):
    bomb = zeros_in_gzip(1 << 30)
    assert len(bomb) < 1.1 * MIB
    assert gzip.decompress(zeros_in_gzip(4 * MIB)) == bytes(4 * MIB), "it is whole"
    status, text = client.post(bomb)
    assert status == 413
    assert text.startswith("maximum event size exceeded: decompressed request body")
    assert running_server.peak_memory_bytes() < LARGE_BODIES_BYTES


@pytest.mark.parametrize(
    "body", [nested(1_000_000), '{"a":' * 1_000_000], ids=["arrays", "objects"]
)
def test_a_million_levels_are_refused(running_server, client, body):
    status, text = client.post(body.encode())
    assert status == 400
    assert text.startswith("failed to parse request")
    assert running_server.peak_memory_bytes() < SMALL_BODIES_BYTES


def test_a_body_over_the_limit_is_refused(running_server, client):
    status, text = client.post(b"x" * 21 * MIB)
    assert (status, text) == (413, "maximum event size exceeded: request body")
    assert running_server.peak_memory_bytes() < SMALL_BODIES_BYTES


def counts(server, name):
    """Stored, and refused by code."""
    (stored,) = server.query(f"SELECT count(*) AS n FROM events WHERE event = '{name}'")
    refused = server.query(
        f"SELECT reason, count(*) AS n FROM rejected WHERE event = '{name}' GROUP BY reason"
    )
    return stored["n"], {row["reason"]: row["n"] for row in refused}


def test_ten_thousand_events_with_a_bad_one_are_stored_without_it(running_server, client):
    name = f"ten thousand {uuid.uuid4()}"
    events = [event(name) for _ in range(10_000)]
    events[7_777] = {"event": name, "properties": {}}
    assert client.post(batch(*events)) == (200, OK.decode())
    assert counts(running_server, name) == (9_999, {"missing_distinct_id": 1})
    assert running_server.peak_memory_bytes() < SMALL_BODIES_BYTES


def test_an_event_of_a_thousand_levels_does_not_cost_its_neighbours(running_server, client):
    name = f"deep {uuid.uuid4()}"
    good, deep = json.dumps(event(name)), json.dumps(event(name, properties={"deep": "HERE"}))
    deep = deep.replace('"HERE"', nested(1000))
    body = f'{{"api_key":"phc_bad","batch":[{good},{deep},{good}]}}'
    assert client.post(body.encode()) == (200, OK.decode())
    assert counts(running_server, name) == (2, {"event_too_deep": 1})


def test_all_of_it_at_once_is_bounded(running_server):
    # Eight clients each: the budget of bytes in flight makes some of them come back.
    bomb, deep = zeros_in_gzip(256 * MIB), nested(1_000_000).encode()
    large = batch(event(properties={"text": "x" * 7 * MIB}))
    running_server.forget_peak_memory()
    clients = [Client(running_server.http) for _ in range(24)]
    for number, each in enumerate(clients):
        body = (bomb, deep, large)[number % 3]
        length = ("Content-Length", str(len(body)))
        head = request_bytes("POST", "/batch", [("Host", "x"), length], b"")
        each._socket.sendall(head + body)
    statuses = [read_response(each._stream).status for each in clients]
    assert set(statuses[0::3]) <= {413, 503}
    assert set(statuses[1::3]) <= {400, 503}
    assert set(statuses[2::3]) <= {200, 503}
    assert 200 in statuses
    assert running_server.peak_memory_bytes() < LARGE_BODIES_BYTES
    for each in clients:
        assert each.post(batch(event()))[0] == 200
        each.close()
