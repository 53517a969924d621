"""What is answered without the core: pages, methods, CORS, drain."""

import pytest

from support.fake_core import FakeRefusal, FakeResult
from unit.transport.harness import Connection, parse_answers, post

ORIGIN = "https://shop.example"


def ask(connection, method, path, *headers):
    connection.send("\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode())
    return connection.answer()


@pytest.mark.parametrize("path", ["/", "/_liveness", "/_readiness", "/_readiness/", "/?a=b"])
def test_status_pages_are_200_capture(path):
    assert ask(Connection(), "GET", path)[::2] == (200, b"capture")


def test_head_has_the_length_but_no_body():
    connection = Connection()
    connection.send(b"HEAD /_liveness HTTP/1.1\r\n\r\n")
    ((status, headers, _),) = parse_answers(connection.transport.take(), to_head=True)
    assert (status, headers["content-length"]) == (200, "7")


def test_unknown_paths_are_404_and_the_connection_goes_on():
    connection = Connection()
    connection.send(post("/i/v1/nothing", b"x" * 100))
    assert connection.answer()[0] == 404
    assert ask(connection, "GET", "/_liveness")[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_on_capture_routes_are_405_with_allow(method):
    connection = Connection()
    connection.send(f"{method} /batch/ HTTP/1.1\r\n\r\n".encode())
    status, headers, _ = connection.answer()
    assert (status, headers["allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert not connection.transport.closed


def test_post_on_a_page_is_405():
    connection = Connection()
    connection.send(post("/_liveness"))
    status, headers, _ = connection.answer()
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_connect_is_refused_and_closed():
    connection = Connection()
    connection.send(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
    assert connection.answer()[0] == 405
    assert connection.transport.closed


def test_options_without_origin_is_200_ok():
    status, headers, body = ask(Connection(), "OPTIONS", "/e/")
    assert (status, body) == (200, b'{"status":"Ok"}')
    assert "access-control-allow-origin" not in headers


def test_preflight_mirrors_origin_and_headers():
    status, headers, _ = ask(
        Connection(),
        "OPTIONS",
        "/i/v0/e/?v=1",
        f"Origin: {ORIGIN}",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type, baggage",
    )
    assert status == 200
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-allow-headers"] == "content-type, baggage"
    assert headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert headers["access-control-max-age"] == "86400"
    assert "Origin" in headers["vary"]


def test_preflight_of_an_unknown_path_passes_so_that_the_request_sees_its_404():
    origin = f"Origin: {ORIGIN}"
    asked = "Access-Control-Request-Method: POST"
    assert ask(Connection(), "OPTIONS", "/flags/", origin, asked)[0] == 200
    assert ask(Connection(), "OPTIONS", "/flags/", origin)[0] == 404


def check_cors(headers):
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-expose-headers"] == "Retry-After"
    assert "access-control-max-age" not in headers


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (FakeResult(), 200),
        (FakeResult(0, 0, 1, 1, (0, "missing_event_name", "text")), 400),
        (FakeRefusal("unknown_token", "text"), 401),
        (FakeRefusal("overloaded", "text", 1), 503),
    ],
)
def test_cors_is_on_every_answer_of_the_core(result, status):
    connection = Connection()
    connection.send(post(headers=(f"Origin: {ORIGIN}",)))
    connection.finish(result)
    got, headers, _ = connection.answer()
    assert got == status
    check_cors(headers)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post("/nowhere", headers=(f"Origin: {ORIGIN}",)), 404),
        (f"PUT /e HTTP/1.1\r\nOrigin: {ORIGIN}\r\n\r\n".encode(), 405),
        (post(body=b"x" * 101, headers=(f"Origin: {ORIGIN}",)), 413),
        (post(body=b"#", headers=(f"origin: {ORIGIN}", "Content-Encoding: no")), 400),
        (post(headers=(f"Origin: {ORIGIN}", "Expect: gold")), 417),
        (f"GET / HTTP/1.1\r\nOrigin: {ORIGIN}\r\n\r\n".encode(), 200),
    ],
)
def test_cors_is_on_every_other_answer(request_bytes, status):
    connection = Connection(max_request_bytes=100)
    connection.send(request_bytes)
    got, headers, _ = connection.answer()
    assert got == status
    check_cors(headers)


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"x y: z\r\n", 400),
        (b"A: " + b"x" * (200 << 10), 431),
        (b"", 408),
    ],
)
def test_cors_is_on_the_answer_to_a_head_that_is_cut_off(rest, status):
    # Without it a browser sees no status at all, and sends the same again.
    connection = Connection()
    connection.send(f"POST /e HTTP/1.1\r\nOrigin: {ORIGIN}\r\nB: c\r\n".encode(), rest)
    connection.pass_time(30)
    got, headers, _ = connection.answer()
    assert got == status
    check_cors(headers)


def test_cors_is_not_that_of_the_request_before():
    connection = Connection()
    connection.send(post(headers=(f"Origin: {ORIGIN}",)))
    connection.finish()
    assert connection.answer()[0] == 200
    connection.send(b"POST /e HTTP/1.1\r\nx y: z\r\n")
    status, headers, _ = connection.answer()
    assert (status, "access-control-allow-origin" in headers) == (400, False)


@pytest.mark.parametrize("prefix", ["", "/ingest", "/a/b"])
@pytest.mark.parametrize("path", ["/e", "/i/v0/e/", "/batch?", "/batch/?v=1", "/i/v0/ai/batch/"])
def test_routes_are_found_with_and_without_their_prefixes(prefix, path):
    connection = Connection(prefixes=("/ingest", "/a/b"))
    connection.send(post(prefix + path))
    connection.finish()
    assert connection.answer()[0] == 200
    assert ask(connection, "GET", f"{prefix}/_liveness")[0] == 200
    assert ask(connection, "GET", f"/other{prefix}/_liveness")[0] == 404


def test_a_prefix_takes_no_route_from_those_without_one():
    connection = Connection(prefixes=("/i/v0", "/e"))
    connection.send(post("/i/v0/e"), post("/e/"), post("/e/e"), post("/i/v0/batch"))
    assert [submitted.endpoint for submitted in connection.core.submitted] == [3, 2, 2, 1]


def test_cors_is_on_a_timeout():
    connection = Connection()
    connection.send(post(headers=(f"Origin: {ORIGIN}",))[:-1])
    connection.pass_time(30)
    status, headers, _ = connection.answer()
    assert status == 408
    check_cors(headers)


def test_readiness_follows_the_core():
    connection = Connection()
    connection.core.current_state = ("starting", "")
    assert ask(connection, "GET", "/_readiness")[::2] == (503, b"starting")
    connection.core.current_state = ("degraded", "disk_full")
    assert ask(connection, "GET", "/_readiness")[::2] == (503, b"disk_full")
    connection.core.current_state = ("degraded", "commits_held")
    assert ask(connection, "GET", "/_readiness")[0] == 200
    assert ask(connection, "GET", "/_liveness")[0] == 200


def test_a_drain_refuses_new_requests_and_finishes_those_under_way():
    connection = Connection()
    other = Connection(connection.core, front=connection.front)
    connection.send(post())
    connection.front.begin_drain()
    other.send(post())
    status, headers, body = other.answer()
    assert (status, headers["retry-after"], headers["connection"]) == (503, "2", "close")
    assert body == b"server is shutting down, please retry"
    assert other.transport.closed
    connection.finish()
    assert connection.answer()[0] == 200


def test_a_drain_makes_readiness_503_and_liveness_stay():
    connection = Connection()
    connection.front.begin_drain()
    assert ask(connection, "GET", "/_readiness")[::2] == (503, b"shutting_down")
    connection = Connection(connection.core, front=connection.front)
    assert ask(connection, "GET", "/_liveness")[0] == 200
