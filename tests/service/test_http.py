"""The HTTP front of a real server, with the real core behind it."""

import base64
import gzip
import json
import socket
import uuid
import zlib
from urllib.parse import quote

import pytest

from support.http import read_response, request_bytes

pytestmark = pytest.mark.service

OK = b'{"status":"Ok"}'


def event(name="seen", **more):
    return {"event": name, "distinct_id": "ada", "properties": {"n": 1}, **more}


def batch(*events, token="phc_http"):
    return json.dumps({"api_key": token, "batch": events}).encode()


def answers(server, message, count):
    """Send bytes on one connection and read as many answers."""
    with socket.create_connection(server.http, timeout=30) as connection:
        connection.sendall(message)
        with connection.makefile("rb") as stream:
            return [read_response(stream) for _ in range(count)]


def post(body, target="/batch/", *headers):
    return request_bytes(
        "POST", target, [("Host", "x"), ("Content-Length", str(len(body))), *headers], body
    )


@pytest.mark.parametrize(
    "path", ["/batch", "/e/", "/i/v0/e", "/capture/", "/track", "/engage/", "/i/v0/ai/batch"]
)
def test_an_event_is_stored_and_found_at_once(running_server, path):
    name = f"by {path} {uuid.uuid4()}"
    response = running_server.post_json(path, {"api_key": "phc_http", **event(name)})
    assert (response.status, response.body) == (200, OK)
    rows = running_server.query(f"SELECT project, distinct_id FROM events WHERE event = '{name}'")
    assert rows == [{"project": "phc_http", "distinct_id": "ada"}]


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/batch/", []), ("/batch/?compression=gzip-js", []), ("/e", [("Content-Encoding", "gzip")])],
)
def test_gzip_is_read_with_or_without_a_hint(running_server, target, headers):
    body = gzip.compress(batch(event()))
    assert running_server.request("POST", target, body=body, headers=headers).status == 200


PERCENT_BASE64 = quote(base64.b64encode(batch(event())), safe="")
# `[{"api_key":"phc_http","event":"seen","distinct_id":"ada"}]`, by lz-string 1.5.0 and by Node.
LZ64 = "NobwRAhgDglg+gawKYE8wC4xQBYGM7YAuhUYANGEgG5IB2hGYAzkneWACYxOEy26E4MDowgcIYAL4BdIA==="
BROTLI = base64.b64decode(
    "GzoAoIzUYs0Z7gS1udSvVhmPzIGyYrCMpQ5LH0zkRDygFuJVnxzP6raPd+meBzq3cqYJDghu4jBQFQCF8wI="
)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/e/", "/i/v0/e/", "/batch/", "/capture/", "/track/", "/engage/"])
@pytest.mark.parametrize(
    ("query", "body", "headers"),
    [
        ("", base64.b64encode(batch(event())), []),
        ("?compression=base64", base64.b64encode(batch(event())), []),
        ("", f"data={quote(batch(event()))}".encode(), []),
        ("", f"data={PERCENT_BASE64}&compression=base64".encode(), []),
        ("?compression=base64", f"data={PERCENT_BASE64}".encode(), []),
        ("?compression=lz64", f"data={quote(LZ64, safe='')}".encode(), []),
        ("", gzip.compress(b"", mtime=0) + gzip.compress(batch(event()), mtime=0), []),
        ("", zlib.compress(batch(event())), [("Content-Encoding", "deflate")]),
        ("", zlib.compress(batch(event()), wbits=-15), [("Content-Encoding", "deflate")]),
        ("", BROTLI, [("Content-Encoding", "br")]),
        ("", batch(event()), [("Content-Encoding", "br")]),
        (f"?data={quote(batch(event()))}", b"", []),
        (f"?data={PERCENT_BASE64}", b"", []),
        (f"?ip=1&_=1&ver=1.2&data={PERCENT_BASE64}&compression=base64", b"", []),
        (f"?data={quote(LZ64, safe='')}&compression=lz64", b"", []),
        (f"?data={PERCENT_BASE64}", b"not looked at", []),
    ],
)
def test_every_coding_is_read_on_every_path(running_server, method, path, query, body, headers):
    form = ("Content-Type", "application/x-www-form-urlencoded")
    response = running_server.request(method, path + query, body=body, headers=[form, *headers])
    assert (response.status, response.body) == (200, OK)


def test_an_event_of_a_query_is_stored_and_found(running_server):
    name = f"by query {uuid.uuid4()}"
    data = quote(base64.b64encode(batch(event(name))), safe="")
    response = running_server.request("GET", f"/e/?data={data}&beacon=1")
    assert (response.status, response.body) == (204, b"")
    rows = running_server.query(f"SELECT project, distinct_id FROM events WHERE event = '{name}'")
    assert rows == [{"project": "phc_http", "distinct_id": "ada"}]


def test_a_get_without_a_payload_is_refused_in_the_protocols_words(running_server):
    response = running_server.request("GET", "/e/?ip=1", headers=[("Origin", "https://a.example")])
    assert response.status == 400
    assert response.body.startswith(b"request missing data payload")
    assert response.header("access-control-allow-origin") == "https://a.example"


def test_elements_are_stored_as_a_chain_of_every_coding(running_server):
    name = f"clicked {uuid.uuid4()}"
    elements = [{"tag_name": "a", "attr__class": "x", "nth_child": 1, "nth_of_type": 1}]
    body = batch(event(name) | {"properties": {"$elements": elements, "n": 1, "$ip": None}})
    assert running_server.request("POST", "/e/", body=base64.b64encode(body)).status == 200
    (row,) = running_server.query(
        f"SELECT elements_chain, properties, ip FROM events WHERE event = '{name}'"
    )
    assert row == {
        "elements_chain": 'a.x:attr__class="x"nth-child="1"nth-of-type="1"',
        "properties": '{"n":1,"$ip":null}',
        "ip": None,
    }


def test_routes_are_found_under_a_prefix(start):
    server = start(prefix="/ingest,/ph")
    for path in ("/ingest/e/", "/ph/i/v0/e", "/batch"):
        assert server.request("POST", path, body=batch(event())).status == 200
    assert server.request("POST", "/other/e/", body=batch(event())).status == 404


def test_chunked_bodies_are_read(running_server):
    body = batch(event())
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = b"POST /batch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    (response,) = answers(running_server, head + chunks, 1)
    assert response.status == 200


def test_pipelined_requests_are_answered_in_order(running_server):
    message = post(batch(event())) + post(b"{", "/batch/") + post(b"", "/no") + post(batch(event()))
    statuses = [response.status for response in answers(running_server, message, 4)]
    assert statuses == [200, 400, 404, 200]


def test_a_bad_event_does_not_cost_its_neighbours(running_server):
    body = batch(event(), {"event": "lost"}, event())
    assert running_server.request("POST", "/batch", body=body).status == 200


def test_a_request_of_bad_events_only_is_refused_by_name(running_server):
    response = running_server.request("POST", "/batch", body=batch({"event": "lost"}))
    assert response.status == 400
    text = "event submitted without a distinct_id: event 0: missing_distinct_id"
    assert response.body.decode() == text


@pytest.mark.parametrize(
    ("body", "status", "start"),
    [
        (b"", 400, "request missing data payload"),
        (b"{", 400, "failed to parse request"),
        (b"\x1f\x8b\x08garbage", 400, "failed to decode request: invalid GZIP data"),
        (b'{"batch":[{"event":"a","distinct_id":"b"}]}', 401, "event submitted without an api_key"),
        (b'{"api_key":"phc_x","batch":[]}', 400, "request holds no event"),
    ],
)
def test_unreadable_requests_are_refused_in_the_protocols_words(
    running_server, body, status, start
):
    origin = ("Origin", "https://shop.example")
    response = running_server.request("POST", "/e/", body=body, headers=[origin])
    assert response.status == status
    assert response.body.decode().startswith(start)
    assert response.header("access-control-allow-origin") == origin[1]


def test_the_same_event_twice_is_a_success_and_stored_once(running_server):
    name = f"twice {uuid.uuid4()}"
    body = batch(event(name, uuid=str(uuid.uuid4())))
    statuses = [running_server.request("POST", "/batch", body=body).status for _ in range(2)]
    assert statuses == [200, 200]
    assert len(running_server.query(f"SELECT uuid FROM events WHERE event = '{name}'")) == 1


def test_a_body_over_the_limit_is_413_and_one_at_it_is_not(start):
    at_limit = batch(event())
    server = start(max_request_bytes=len(at_limit))
    assert server.request("POST", "/batch", body=at_limit).status == 200
    over = server.request("POST", "/batch", body=at_limit + b" ")
    assert (over.status, over.body) == (413, b"maximum event size exceeded: request body")


def test_named_projects_close_the_door(start):
    server = start(projects='{"shop": {"tokens": ["phc_known"]}}')
    assert server.request("POST", "/e", body=batch(event(), token="phc_known")).status == 200
    assert server.request("POST", "/e", body=batch(event(), token="phc_other")).status == 401


def test_health_pages_and_metrics(running_server):
    assert running_server.request("POST", "/batch", body=batch(event())).status == 200
    assert running_server.request("GET", "/_readiness").body == b"capture"
    assert running_server.request("GET", "/_liveness").status == 200
    for path in ("/healthz", "/readyz", "/"):
        assert running_server.get_admin(path).status == 200
    metrics = running_server.get_admin("/metrics").body.decode()
    assert 'penstock_http_requests_total{route="batch",status="200"}' in metrics
    names = [line.split()[2] for line in metrics.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert all(name.startswith("penstock_") for name in names)
