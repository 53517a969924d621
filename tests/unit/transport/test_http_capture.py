"""Requests that reach the core, and what the client reads of its result."""

import pytest

from penstock.transport.http_query import (
    CODING_BASE64,
    CODING_BROTLI,
    CODING_DEFLATE,
    CODING_GZIP,
    CODING_LZ64,
    CODING_UNSPECIFIED,
    CODING_ZSTD,
)
from support.fake_core import ENDPOINTS, FakeCore, FakeRefusal, FakeResult
from unit.transport.harness import Connection, parse_answers, post

OK = b'{"status":"Ok"}'


@pytest.mark.parametrize(("name", "number"), ENDPOINTS[:7])
@pytest.mark.parametrize("ending", ["", "/", "?", "/?", "?v=1", "/?ip=1&_=0"])
def test_each_capture_path_reaches_its_endpoint(name, number, ending):
    connection = Connection()
    connection.send(post(f"/{name}{ending}", b"body"))
    (submitted,) = connection.core.submitted
    assert (submitted.endpoint, submitted.body) == (number, b"body")


def test_absolute_form_reaches_its_endpoint():
    connection = Connection()
    connection.send(post("http://example.com/e/?v=1"))
    assert connection.core.submitted[0].endpoint == 2


def test_success_is_exactly_200_with_the_status_object():
    connection = Connection()
    connection.send(post())
    assert connection.transport.written == b""  # ACK-1: nothing before the core says so
    connection.finish()
    status, headers, body = connection.answer()
    assert (status, body) == (200, OK)
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(OK))
    assert "date" in headers
    assert not connection.transport.closed


def test_duplicates_are_a_success():
    connection = Connection()
    connection.send(post())
    connection.finish(FakeResult(accepted=0, duplicates=1))
    assert connection.answer()[0] == 200


def test_beacon_success_is_204_without_a_body():
    connection = Connection()
    connection.send(post("/e/?beacon=1"))
    connection.finish()
    assert connection.transport.take().startswith(b"HTTP/1.1 204 No Content\r\n")


def test_one_accepted_event_among_refused_ones_is_a_success():
    connection = Connection()
    connection.send(post())
    connection.finish(
        FakeResult(accepted=1, rejected=2, first_rejection=(0, "missing_distinct_id", "text"))
    )
    assert connection.answer()[::2] == (200, OK)


@pytest.mark.parametrize(
    ("code", "status"),
    [("missing_distinct_id", 400), ("event_too_large", 413), ("token_mismatch", 401)],
)
def test_a_request_of_refused_events_only_is_refused_by_its_first(code, status):
    connection = Connection()
    connection.send(post())
    connection.finish(FakeResult(accepted=0, rejected=2, first_rejection=(1, code, "the text")))
    got, headers, body = connection.answer()
    assert (got, body) == (status, f"the text: event 1: {code}".encode())
    assert headers["content-type"] == "text/plain; charset=utf-8"


def test_overload_is_503_with_retry_after():
    connection = Connection(FakeCore(refusal=FakeRefusal(retry_after_seconds=3)))
    connection.send(post())
    status, headers, body = connection.answer()
    assert (status, headers["retry-after"]) == (503, "3")
    assert body == b"server is overloaded, please retry"
    assert not connection.transport.closed


def test_a_late_refusal_is_answered_like_an_early_one():
    connection = Connection()
    connection.send(post())
    connection.finish(FakeRefusal("storage_failed", "transient error, please retry", 1))
    assert connection.answer()[0] == 503


def test_an_unknown_token_is_401():
    connection = Connection()
    connection.send(post())
    connection.finish(FakeRefusal("unknown_token", "API key is not valid"))
    status, headers, _ = connection.answer()
    assert status == 401
    assert "retry-after" not in headers


def test_shutting_down_closes_the_connection_after_the_answer():
    connection = Connection()
    connection.core.drain_and_stop_admission()
    connection.send(post())
    status, headers, _ = connection.answer()
    assert (status, headers["retry-after"], headers["connection"]) == (503, "2", "close")
    assert connection.transport.closed


@pytest.mark.parametrize(
    ("path", "headers", "coding"),
    [
        ("/e", (), CODING_UNSPECIFIED),
        ("/e", ("Content-Encoding: gzip",), CODING_GZIP),
        ("/e", ("content-encoding:  GZIP ",), CODING_GZIP),
        ("/e", ("CONTENT-ENCODING: zstd",), CODING_ZSTD),
        ("/e?compression=gzip-js", (), CODING_GZIP),
        ("/e?compression=GZIP", ("Content-Encoding: br",), CODING_GZIP),
        ("/e", ("Content-Encoding: deflate",), CODING_DEFLATE),
        ("/e", ("Content-Encoding: BR",), CODING_BROTLI),
        ("/e?compression=lz64", (), CODING_LZ64),
        ("/e?compression=LZ-String", (), CODING_LZ64),
        ("/e?compression=base64", (), CODING_BASE64),
        ("/e?compression=b64", (), CODING_BASE64),
        ("/e?compression=rot13", (), CODING_UNSPECIFIED),
        ("/e?compression=rot13", ("Content-Encoding: gzip",), CODING_GZIP),
    ],
)
def test_coding_hint_is_read_from_query_then_header(path, headers, coding):
    connection = Connection()
    connection.send(post(path, headers=headers))
    assert connection.core.submitted[0].coding == coding


def test_unsupported_coding_is_refused_in_the_protocols_words():
    connection = Connection()
    connection.send(post(body=b"#", headers=("Content-Encoding: compress",)))
    status, _, body = connection.answer()
    assert (status, body) == (400, b"failed to decode request: unsupported content encoding")
    assert connection.core.submitted == []
    assert not connection.transport.closed


@pytest.mark.parametrize(
    "start", [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"{", b" \n[", b"\xef\xbb\xbf{"]
)
def test_what_a_body_is_wins_over_an_unsupported_coding(start):
    connection = Connection()
    connection.send(post(body=start, headers=("Content-Encoding: utf-8",)))
    assert connection.core.submitted[0].coding == CODING_UNSPECIFIED


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_data_of_the_query_wins_over_a_body(method):
    connection = Connection()
    url = "/e/?compression=base64&data=e30%3D&_=1700000005"
    head = f"{method} {url} HTTP/1.1\r\nContent-Length: 4\r\nContent-Encoding: zstd\r\n\r\n"
    connection.send(head.encode() + b"body")
    (submitted,) = connection.core.submitted
    assert (submitted.body, submitted.coding) == (b"data=e30%3D", CODING_BASE64)
    assert submitted.sent_at_us == 1_700_000_005_000_000


def test_a_header_about_the_body_says_nothing_of_data_in_the_query():
    connection = Connection()
    connection.send(b"GET /e/?data=e30= HTTP/1.1\r\nContent-Encoding: compress\r\n\r\n")
    assert connection.core.submitted[0].coding == CODING_UNSPECIFIED


def test_empty_data_of_the_query_leaves_the_body_standing():
    connection = Connection()
    connection.send(post("/e/?data=&beacon=1", b"body"))
    assert connection.core.submitted[0].body == b"body"


def test_get_takes_a_body_as_post_does():
    connection = Connection()
    connection.send(b"GET /batch/ HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
    connection.send(b"GET /batch/ HTTP/1.1\r\n\r\n")
    assert [submitted.body for submitted in connection.core.submitted] == [b"body", b""]


def test_data_of_the_query_has_the_limit_of_bodies():
    at_limit = "data=" + "x" * 95
    connection = Connection(max_request_bytes=100)
    connection.send(f"GET /e?{at_limit} HTTP/1.1\r\n\r\n".encode())
    connection.send(f"GET /e?{at_limit}x HTTP/1.1\r\n\r\n".encode())
    assert [submitted.body for submitted in connection.core.submitted] == [at_limit.encode()]
    connection.finish()
    assert [answer[0] for answer in connection.answers()] == [200, 413]


def test_uploads_of_session_replay_have_a_limit_of_their_own():
    connection = Connection(max_request_bytes=100, max_recording_bytes=200)
    at_limit = b"x" * 200
    chunked = b"POST /s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    connection.send(
        post("/s/", at_limit),
        chunked % (200, at_limit),
        post("/s/", at_limit + b"x"),
        chunked % (201, at_limit + b"x"),
        post("/batch/", at_limit),
        f"GET /s?data={'x' * 195} HTTP/1.1\r\n\r\n".encode(),
        f"GET /s?data={'x' * 196} HTTP/1.1\r\n\r\n".encode(),
    )
    connection.finish()
    statuses = [answer[0] for answer in connection.answers()]
    assert statuses == [200, 200, 413, 413, 413, 200, 413]
    assert {submitted.endpoint for submitted in connection.core.submitted} == {16}


def test_uploads_of_session_replay_are_told_who_sends_them():
    connection = Connection()
    agent = b"POST %s HTTP/1.1\r\nUser-Agent: posthog-ios/3\r\nContent-Length: 2\r\n\r\n{}"
    silent = b"POST /s HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    connection.send(agent % b"/s/?", agent % b"/x/s", silent, agent % b"/e")
    told = [submitted.user_agent for submitted in connection.core.submitted]
    # The second path is none; of events nobody asks who sends them.
    assert told == [b"posthog-ios/3", None, None]


def test_data_of_the_query_counts_while_a_body_is_received():
    connection = Connection(max_receiving_bytes=1000)
    start = f"POST /e?data={'x' * 900} HTTP/1.1\r\nContent-Length: 200\r\n\r\n"
    connection.send(start.encode() + b"y" * 50)
    assert connection.front.receiving_bytes == 950
    connection.send(b"y" * 51)
    connection.send(b"y" * 99)
    assert connection.answer()[0] == 503
    assert connection.front.receiving_bytes == 0


@pytest.mark.parametrize(
    ("query", "sent_at_us"),
    [
        ("_=1700000000123", 1_700_000_000_123_000),
        ("sent_at=1700000000", 1_700_000_000_000_000),
        ("sent_at=1700000000123&_=1700000005", 1_700_000_000_123_000),
        ("_=1700000005&_=1700000006", 1_700_000_005_000_000),
        ("_=&_=1700000006", 1_700_000_006_000_000),
        # From 2021 on: a counter that keeps caches away is no clock.
        ("_=1609459200", 1_609_459_200_000_000),
        ("_=1609459200000", 1_609_459_200_000_000),
        ("_=1609459199", None),
        ("_=1609459199999", None),
        ("_=5", None),
        ("sent_at=5&_=1700000006", 1_700_000_006_000_000),
        ("sent_at=soon&_=1700000000123", 1_700_000_000_123_000),
        ("_=-5", None),
        ("_=", None),
        ("_=99999999999999999999", None),
        ("_=%D9%A3", None),
        ("&".join(f"a{n}=1" for n in range(200)), None),
    ],
)
def test_sent_at_is_read_in_ms_or_s_and_ignored_when_malformed(query, sent_at_us):
    connection = Connection()
    connection.send(post(f"/e/?{query}"))
    assert connection.core.submitted[0].sent_at_us == sent_at_us


def test_a_body_in_one_piece_is_not_copied_and_one_in_many_is_joined():
    connection = Connection()
    request = post(body=b"0123456789")
    connection.send(*(request[n : n + 1] for n in range(len(request))))
    assert connection.core.submitted[0].body == b"0123456789"


def test_chunked_body_is_joined():
    connection = Connection()
    head = b"POST /batch HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.send(head, b"3\r\nabc\r\n", b"4\r\ndefg\r\n0\r\n\r\n")
    assert connection.core.submitted[0].body == b"abcdefg"


def test_an_empty_body_is_for_the_core_to_refuse():
    connection = Connection()
    connection.send(b"POST /batch HTTP/1.1\r\n\r\n")
    assert connection.core.submitted[0].body == b""


def test_a_core_that_raises_is_answered_500_and_closed():
    # The parser swallows what callbacks raise; without care the client would wait for ever.
    connection = Connection()
    connection.front.submit = lambda *_: 1 / 0
    connection.send(post())
    assert connection.answer()[0] == 500
    assert connection.transport.closed or connection.transport.eof_written


def test_results_of_a_lost_connection_are_dropped():
    connection = Connection()
    connection.send(post())
    connection.protocol.connection_lost(None)
    connection.finish()
    assert connection.transport.written == b""
    assert connection.front.connections == set()


def test_requests_are_counted_by_route_and_status():
    connection = Connection()
    connection.send(post("/e"), post("/batch"), post("/nowhere"))
    connection.finish()
    assert len(parse_answers(connection.transport.take())) == 3
    assert connection.front.request_counts() == {
        ("e", 200): 1,
        ("batch", 200): 1,
        ("unknown", 404): 1,
    }


@pytest.mark.parametrize(("size", "mirrored"), [(1024, True), (1025, False)])
def test_only_an_origin_of_a_sensible_size_is_mirrored(size, mirrored):
    # Each answer that waits for its turn would keep one of up to 64 KiB.
    connection = Connection()
    connection.send(post(headers=("Origin: " + "x" * size,)))
    connection.finish()
    assert ("access-control-allow-origin" in connection.answer()[1]) is mirrored


@pytest.mark.parametrize(("size", "mirrored"), [(1024, True), (1025, False)])
def test_only_requested_headers_of_a_sensible_size_are_mirrored(size, mirrored):
    connection = Connection()
    asked = f"Access-Control-Request-Headers: {'x' * size}"
    method = "Access-Control-Request-Method: POST"
    head = f"OPTIONS /e HTTP/1.1\r\nOrigin: https://a\r\n{method}\r\n{asked}\r\n\r\n"
    connection.send(head.encode())
    status, headers, _ = connection.answer()
    assert status == 200
    assert ("access-control-allow-headers" in headers) is mirrored
