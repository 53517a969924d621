"""Capture v1 over a connection: which headers go to the core, and every answer in its own form."""

import json

import pytest

from penstock.transport.http_v1 import ERROR_NAMES, ERROR_URI
from support.fake_core import FakeCore, FakeRefusal, FakeResult, FakeResults
from unit.transport.harness import Connection, parse_answers, post

_core = pytest.importorskip("penstock._core")

PATH = "/i/v1/analytics/events"
REQUEST_ID = "0198c0de-0000-7000-8000-000000000abc"
HEADERS = (
    "Authorization: Bearer phc_a",
    "Content-Type: application/json",
    "User-Agent: posthog-go/1.23.1",
    # As Go spells them.
    "Posthog-Sdk-Info: posthog-go/1.23.1",
    "Posthog-Attempt: 1",
    f"Posthog-Request-Id: {REQUEST_ID}",
    "Posthog-Request-Timestamp: 2026-01-01T00:00:00Z",
)
BODY = b'{"created_at":"2026-01-01T00:00:00Z","batch":[]}'


def sent(*more, path=PATH, body=BODY):
    return post(path, body, (*HEADERS, *more))


def error_of(answer):
    """Check that an answer is an error as the protocol has it; its name."""
    status, headers, body = answer
    assert headers["content-type"] == "application/json", body
    document = json.loads(body)
    assert set(document) == {"error", "error_description", "error_uri"}
    assert document["error_description"]
    assert document["error_uri"] == ERROR_URI
    return status, document["error"]


@pytest.mark.parametrize("path", [PATH, PATH + "/", PATH + "?x=1", "/i/v1/ai/events/", "/p" + PATH])
def test_headers_and_body_go_to_the_core_and_its_results_come_back(path):
    connection = Connection(prefixes=("/p",))
    connection.send(sent(path=path))
    (submitted,) = connection.core.submitted
    assert submitted.body == BODY
    assert submitted.endpoint == (25 if "/ai/" in path else 24)
    assert submitted.coding == 0
    assert submitted.client_address == "192.0.2.7"
    assert submitted.headers == (
        b"Bearer phc_a",
        b"posthog-go/1.23.1",
        b"1",
        REQUEST_ID.encode(),
        b"2026-01-01T00:00:00Z",
        b"application/json",
        b"posthog-go/1.23.1",
    )
    connection.finish(FakeResults(b'{"results":{"u":{"result":"ok"}}}'))
    status, headers, body = connection.answer()
    assert (status, body) == (200, b'{"results":{"u":{"result":"ok"}}}')
    assert headers["content-type"] == "application/json"
    assert headers["posthog-request-id"] == REQUEST_ID
    assert "retry-after" not in headers
    assert headers["date"]


def test_events_to_be_sent_again_come_with_a_time_to_wait():
    connection = Connection()
    connection.send(sent())
    connection.finish(FakeResults(retry_after_seconds=2))
    status, headers, _ = connection.answer()
    assert (status, headers["retry-after"]) == (200, "2")


def test_missing_headers_are_the_cores_to_refuse():
    connection = Connection()
    connection.send(post(PATH, BODY))
    (submitted,) = connection.core.submitted
    assert submitted.headers == (None,) * 7


def test_headers_of_one_request_are_not_the_next_ones():
    connection = Connection()
    connection.send(sent() + post(PATH, BODY) + post("/batch/", BODY) + sent())
    first, second, third, fourth = connection.core.submitted
    assert second.headers == (None,) * 7
    assert third.headers == ()
    assert fourth.headers == first.headers
    for submitted in (first, second, third, fourth):
        result = FakeResult() if submitted is third else FakeResults()
        connection.core.finish(submitted.ticket, result)
    connection.engine.deliver()
    told = [headers.get("posthog-request-id") for _, headers, _ in connection.answers()]
    assert told == [REQUEST_ID, None, None, REQUEST_ID]


@pytest.mark.parametrize(
    ("encoding", "coding"),
    [("gzip", 2), ("zstd", 3), ("deflate", 4), ("br", 5), ("identity", 1), ("lz4", None)],
)
def test_the_content_encoding_goes_to_the_core(encoding, coding):
    connection = Connection()
    connection.send(sent(f"Content-Encoding: {encoding}"))
    assert connection.core.submitted[0].coding == coding


def test_the_query_says_nothing():
    connection = Connection()
    connection.send(
        sent(path=PATH + "?compression=gzip&data=e30%3D&sent_at=1767225600000&beacon=1")
    )
    (submitted,) = connection.core.submitted
    assert (submitted.body, submitted.coding) == (BODY, 0)
    connection.finish(FakeResults())
    assert connection.answer()[0] == 200


def test_the_address_behind_a_proxy_is_the_clients():
    connection = Connection(trusted_proxies=1)
    connection.send(sent("X-Forwarded-For: 198.51.100.1, 203.0.113.9"))
    assert connection.core.submitted[0].client_address == "203.0.113.9"


@pytest.mark.parametrize("code", [code for code, scope, _ in _core.codes() if scope != "event"])
def test_every_refusal_of_the_core_is_a_document(code):
    connection = Connection(FakeCore(refusal=FakeRefusal(code, "in words")))
    connection.send(sent())
    status, name = error_of(connection.answer())
    assert name == ERROR_NAMES.get(code, code)
    assert (status == 415) == (code in {"unsupported_coding", "unsupported_content_type"})


def test_names_of_errors_are_those_of_codes():
    assert set(ERROR_NAMES) <= {code for code, _, _ in _core.codes()}


def test_overload_says_when_to_come_back():
    connection = Connection(
        FakeCore(refusal=FakeRefusal("disk_full", "full", retry_after_seconds=10))
    )
    connection.send(sent())
    answer = connection.answer()
    assert error_of(answer) == (503, "service_unavailable")
    assert answer[1]["retry-after"] == "10"
    assert answer[1]["posthog-request-id"] == REQUEST_ID


def test_an_internal_error_may_be_tried_again():
    connection = Connection(FakeCore(refusal=FakeRefusal("internal_error", "internal error")))
    connection.send(sent())
    answer = connection.answer()
    assert error_of(answer) == (500, "internal_error")
    assert answer[1]["retry-after"] == "1"


def test_a_service_that_stops_says_so_in_the_protocols_words():
    connection = Connection()
    connection.front.begin_drain()
    connection.send(sent())
    answer = connection.answer()
    assert error_of(answer) == (503, "service_unavailable")
    assert answer[1]["retry-after"] == "2"
    assert answer[1]["connection"] == "close"
    assert answer[1]["posthog-request-id"] == REQUEST_ID


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_only_post_is_taken(method):
    connection = Connection()
    connection.send(sent().replace(b"POST", method.encode(), 1))
    answer = connection.answer()
    assert error_of(answer) == (405, "method_not_allowed")
    assert answer[1]["allow"] == "POST, OPTIONS"
    assert connection.core.submitted == []


def test_head_is_not_taken_and_gets_no_body():
    connection = Connection()
    connection.send(f"HEAD {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    ((status, headers, body),) = parse_answers(connection.transport.take(), to_head=True)
    assert (status, body) == (405, b"")
    assert headers["content-type"] == "application/json"


def test_a_body_over_the_limit_is_413():
    connection = Connection(max_request_bytes=20)
    connection.send(sent(body=b"x" * 21))
    assert error_of(connection.answer()) == (413, "payload_too_large")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (sent("Expect: something"), (417, "expectation_failed")),
        (sent(f"X-Long: {'x' * (70 << 10)}"), (431, "request_headers_too_large")),
        (sent(path=PATH + "?" + "x" * (70 << 10)), (414, "uri_too_long")),
        (sent().replace(b"Content-Length: ", b"Content-Length: x"), (400, "bad_request")),
    ],
)
def test_what_http_refuses_is_told_as_a_document(request_, expected):
    connection = Connection()
    connection.send(request_)
    assert error_of(connection.answer()) == expected
    assert connection.core.submitted == []


@pytest.mark.parametrize("cut", [b"2026-01-01T00", b'"batch"'], ids=["head", "body"])
def test_a_client_that_stops_is_told_as_a_document_and_may_try_again(cut):
    connection = Connection()
    connection.send(sent().partition(cut)[0])
    connection.pass_time(40)
    answer = connection.answer()
    assert error_of(answer) == (408, "request_timeout")
    assert answer[1]["retry-after"] == "1"
    assert answer[1]["posthog-request-id"] == REQUEST_ID


def test_a_bug_is_told_as_a_document(monkeypatch):
    connection = Connection()

    def fail(*_arguments):
        raise RuntimeError

    monkeypatch.setattr(connection.front, "submit_v1", fail)
    connection.send(sent())
    assert error_of(connection.answer()) == (500, "internal_error")


ORIGIN = "Origin: https://app.example"


def test_every_answer_can_be_read_by_the_page_that_asked():
    connection = Connection(max_request_bytes=100)
    connection.send(sent(ORIGIN))
    connection.finish(FakeResults())
    connection.send(sent(ORIGIN).replace(b"POST", b"GET", 1))
    connection.send(sent(ORIGIN, body=b"x" * 101))
    answers = connection.answers()
    assert [status for status, _, _ in answers] == [200, 405, 413]
    for _, headers, _ in answers:
        assert headers["access-control-allow-origin"] == "https://app.example"
        assert headers["access-control-allow-credentials"] == "true"
        assert headers["access-control-expose-headers"] == "Retry-After, PostHog-Request-Id"


def test_a_preflight_allows_what_the_route_takes():
    connection = Connection()
    lines = (
        f"OPTIONS {PATH} HTTP/1.1",
        "Host: x",
        ORIGIN,
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization, posthog-attempt",
    )
    connection.send("\r\n".join(lines).encode() + b"\r\n\r\n")
    status, headers, _ = connection.answer()
    assert status == 200
    assert headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert headers["access-control-allow-headers"] == "authorization, posthog-attempt"
    assert headers["access-control-allow-origin"] == "https://app.example"


def test_a_long_request_id_is_not_sent_back():
    connection = Connection()
    connection.send(sent().replace(REQUEST_ID.encode(), b"x" * 2000))
    connection.finish(FakeResults())
    assert "posthog-request-id" not in connection.answer()[1]


def test_answers_are_counted_by_route_and_status():
    connection = Connection()
    connection.send(sent())
    connection.finish(FakeResults())
    assert connection.front.request_counts() == {("i/v1/analytics/events", 200): 1}
