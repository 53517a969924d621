"""What SDKs call besides capture, as the front answers it: methods, CORS, copies, bodies."""

import json

import pytest

from penstock.config import Project, Settings
from penstock.posthog.flags import MAX_FLAGS_BODY_BYTES
from penstock.posthog.paths import SdkAnswers
from support.fake_core import FakeRefusal
from unit.transport.harness import Connection, parse_answers, post

ORIGIN = "https://shop.example"
CLOSED = Settings(projects={"shop": Project(tokens=["phc_1"])})


def token_of(body, coding, max_bytes):
    """Stand in for the core: JSON without a coding."""
    assert coding == 0 or body.startswith(b"coded")
    if len(body) > max_bytes:
        return FakeRefusal("request_too_large", "too large")
    return json.loads(body.removeprefix(b"coded"))["token"]


def connect(settings=None, **more):
    answers = SdkAnswers(settings or Settings(), token_of)
    return Connection(find_call=answers.find, **more)


def ask(connection, method, path, *headers):
    connection.send("\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode())
    return connection.answer()


@pytest.mark.parametrize("prefix", ["", "/ingest"])
@pytest.mark.parametrize("path", ["/array/phc_1/config", "/flags/?v=2", "/api/surveys/?token=x"])
def test_calls_are_answered_with_and_without_a_prefix(prefix, path):
    connection = connect(prefixes=("/ingest", "/other"))
    status, headers, body = ask(connection, "GET", prefix + path)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert isinstance(json.loads(body), dict)
    assert ask(connection, "GET", f"/nowhere{path}")[0] == 404


def test_captures_are_found_before_any_call():
    connection = connect()
    connection.send(post("/batch/?v=1"), post("/e"))
    assert len(connection.core.submitted) == 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/array/phc_1/config", 200),
        ("GET", "/array/phc_1/config.js", 200),
        ("GET", "/array/phx_1/config.js", 404),
        ("POST", "/flags/", 200),
        ("POST", "/api/surveys/", 405),
        ("GET", "/static/array.js", 404),
        ("DELETE", "/api/push_subscriptions/", 200),
    ],
)
def test_cors_is_on_every_answer(method, path, status):
    got, headers, _ = ask(connect(), method, path, f"Origin: {ORIGIN}", "Content-Length: 0")
    assert got == status
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-credentials"] == "true"


def test_other_methods_are_405_and_the_connection_goes_on():
    connection = connect()
    status, headers, _ = ask(connection, "PUT", "/array/phc_1/config")
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert ask(connection, "GET", "/array/phc_1/config")[0] == 200


@pytest.mark.parametrize(("path", "status"), [("/array/phc_1/config", 200), ("/flags/", 204)])
def test_options_names_the_methods_and_mirrors_what_a_preflight_asks(path, status):
    got, headers, _ = ask(
        connect(CLOSED),
        "OPTIONS",
        path,
        f"Origin: {ORIGIN}",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type, baggage",
    )
    assert got == status
    assert "GET" in headers["allow"]
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-headers"] == "content-type, baggage"


def test_head_has_the_length_of_the_body_but_none():
    connection = connect()
    length = ask(connection, "GET", "/array/phc_1/config")[1]["content-length"]
    connection.send(b"HEAD /array/phc_1/config HTTP/1.1\r\n\r\n")
    ((status, headers, _),) = parse_answers(connection.transport.take(), to_head=True)
    assert (status, headers["content-length"]) == (200, length)


@pytest.mark.parametrize("path", ["/array/phc_1/config", "/array/phc_1/config.js"])
def test_a_copy_that_is_still_good_is_304(path):
    connection = connect()
    _, headers, _ = ask(connection, "GET", path)
    etag = headers["etag"]
    for tag in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        status, again, body = ask(
            connection, "GET", path, f"If-None-Match: {tag}", f"Origin: {ORIGIN}"
        )
        assert (status, body) == (304, b"")
        assert "content-length" not in again
        assert (again["etag"], again["cache-control"]) == (etag, headers["cache-control"])
        assert again["access-control-allow-origin"] == ORIGIN
    for tag in ('"other"', etag.strip('"'), "x" * 2000):
        assert ask(connection, "GET", path, f"If-None-Match: {tag}")[0] == 200


def test_a_tag_is_not_that_of_the_request_before():
    connection = connect()
    etag = ask(connection, "GET", "/array/phc_1/config")[1]["etag"]
    assert ask(connection, "GET", "/array/phc_1/config", f"If-None-Match: {etag}")[0] == 304
    assert ask(connection, "GET", "/array/phc_1/config")[0] == 200


def test_a_copy_kept_for_one_page_is_not_given_to_another():
    _, headers, _ = ask(connect(), "GET", "/array/phc_1/config.js")
    assert headers["vary"] == "Origin"
    _, headers, _ = ask(connect(), "GET", "/array/phc_1/config.js", f"Origin: {ORIGIN}")
    assert headers["vary"].startswith("Origin")


def test_a_script_is_taken_for_nothing_else():
    _, headers, _ = ask(connect(), "GET", "/array/phc_1/config.js")
    assert headers["x-content-type-options"] == "nosniff"


def test_a_body_that_nobody_needs_is_not_kept():
    connection = connect()
    head, _, body = post("/i/v1/logs?token=x", b"x" * 5000).partition(b"\r\n\r\n")
    connection.send(head + b"\r\n\r\n", body[:4000])
    assert connection.front.receiving_bytes == 0
    connection.send(body[4000:])
    assert connection.answer()[::2] == (200, b"{}")


@pytest.mark.parametrize(("token", "status"), [("phc_1", 200), ("phc_2", 401)])
def test_the_token_of_a_body_is_read_where_unknown_ones_are_refused(token, status):
    connection = connect(CLOSED)
    body = json.dumps({"token": token}).encode()
    connection.send(post("/flags/?v=2", body))
    assert connection.answer()[0] == status
    connection.send(post("/flags/?v=2", b"coded" + body, headers=("Content-Encoding: gzip",)))
    assert connection.answer()[0] == status


def test_a_body_of_flags_is_bounded():
    connection = connect(CLOSED)
    fits = b'{"token":"phc_1"}'.ljust(MAX_FLAGS_BODY_BYTES)
    connection.send(post("/flags/", fits))
    assert connection.answer()[0] == 200
    over = post("/flags/", fits + b" ")
    # Told by its head, it is not even kept.
    connection.send(over[:-9])
    assert connection.front.receiving_bytes == 0
    connection.send(over[-9:])
    assert connection.answer()[0] == 413
    chunked = b"POST /flags/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.send(chunked, b"%x\r\n%s \r\n0\r\n\r\n" % (len(fits) + 1, fits))
    assert connection.answer()[0] == 413


def test_answers_keep_the_order_of_their_requests():
    connection = connect()
    connection.send(post() + b"GET /array/phc_1/config HTTP/1.1\r\n\r\n" + post("/flags/"))
    assert connection.answers() == []
    connection.finish()
    bodies = [body for _, _, body in connection.answers()]
    assert bodies[0] == b'{"status":"Ok"}'
    assert b"autocapture_opt_out" in bodies[1]
    assert b"featureFlags" in bodies[2]


def test_calls_are_answered_while_captures_are_refused_by_a_drain():
    connection = connect()
    connection.front.begin_drain()
    status, headers, _ = ask(connection, "GET", "/array/phc_1/config")
    assert (status, headers["connection"]) == (200, "close")


def test_calls_are_counted_by_their_names():
    connection = connect()
    ask(connection, "GET", "/array/phc_1/config")
    ask(connection, "GET", "/array/phc_2/config")
    connection.send(post("/flags/"))
    counts = connection.front.request_counts()
    assert counts == {("array/config", 200): 2, ("flags", 200): 1}
