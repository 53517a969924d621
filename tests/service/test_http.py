"""The HTTP front of a real server, with the real core behind it."""

import gzip
import json
import socket
import uuid

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


@pytest.mark.parametrize("path", ["/batch", "/e/", "/i/v0/e", "/capture/", "/track", "/engage/"])
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
