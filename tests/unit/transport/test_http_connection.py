"""The connection itself: order, reuse, limits, time."""

import tracemalloc

import pytest

from penstock.transport.http_limits import (
    LINGER_SECONDS,
    MAX_DISCARDED_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED_BYTES,
    MAX_PIPELINED_REQUESTS,
    MAX_REFUSED_CONNECTIONS,
    MAX_URL_BYTES,
)
from support.fake_core import FakeCore, FakeResult
from unit.transport.harness import Connection, post

TOO_LARGE = b"maximum event size exceeded: request body"
STOPPED = b"client stopped sending data"


def chunked(*chunks: bytes, end=b"0\r\n\r\n"):
    head = b"POST /batch HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


# Order and reuse.


def test_pipelined_answers_come_in_the_order_of_the_requests():
    connection = Connection()
    connection.send(post(body=b"1") + post(body=b"2") + post("/nowhere") + post(body=b"3"))
    first, second, third = connection.core.submitted
    connection.core.finish(third.ticket, FakeResult(accepted=1))
    connection.core.finish(second.ticket, FakeResult(0, 0, 1, 1, (0, "invalid_uuid", "t")))
    connection.engine.deliver()
    assert connection.transport.written == b""
    connection.core.finish(first.ticket)
    connection.engine.deliver()
    assert [status for status, _, _ in connection.answers()] == [200, 400, 404, 200]
    assert connection.transport.writes == 1


def test_a_connection_is_kept_and_used_again():
    connection = Connection()
    for _ in range(3):
        connection.send(post())
        connection.finish()
        assert connection.answer()[0] == 200
    assert not connection.transport.closed


def test_reading_pauses_when_too_many_requests_wait_and_resumes():
    connection = Connection()
    connection.send(post() * MAX_PIPELINED_REQUESTS)
    assert connection.transport.reading
    connection.send(post())
    assert not connection.transport.reading
    connection.finish()
    assert connection.transport.reading
    assert len(connection.answers()) == MAX_PIPELINED_REQUESTS + 1


def test_reading_pauses_when_too_many_bytes_wait_and_resumes():
    connection = Connection()
    connection.send(post(body=b"x" * MAX_PIPELINED_BYTES))
    assert connection.transport.reading
    connection.send(post(body=b"x"))
    assert not connection.transport.reading
    connection.finish()
    assert connection.transport.reading


def test_answers_wait_while_the_client_does_not_read_them():
    connection = Connection()
    connection.send(post())
    connection.protocol.pause_writing()
    assert not connection.transport.reading
    connection.finish()
    assert connection.transport.written == b""
    connection.protocol.resume_writing()
    assert connection.answer()[0] == 200
    assert connection.transport.reading


def test_connection_close_is_heeded():
    connection = Connection()
    connection.send(post(headers=("Connection: close",)) + b"POST /batch HTTP/1.1\r\n\r\n")
    connection.finish()
    _, headers, _ = connection.answer()
    assert headers["connection"] == "close"
    assert connection.transport.closed
    assert len(connection.core.submitted) == 1


def test_a_submit_that_raises_is_answered_also_on_the_last_request():
    connection = Connection()
    connection.front.submit = lambda *_: 1 / 0
    connection.send(post(headers=("Connection: close",)))
    status, headers, _ = connection.answer()
    assert (status, headers["connection"]) == (500, "close")


@pytest.mark.parametrize(("header", "kept"), [(b"", False), (b"Connection: keep-alive\r\n", True)])
def test_http_1_0_is_closed_unless_kept_alive_on_request(header, kept):
    connection = Connection()
    connection.send(b"POST /e HTTP/1.0\r\nContent-Length: 1\r\n" + header + b"\r\nx")
    connection.finish()
    _, headers, _ = connection.answer()
    assert headers["connection"] == ("keep-alive" if kept else "close")
    assert connection.transport.closed is not kept


def test_a_client_that_ends_its_side_still_gets_its_answers():
    connection = Connection()
    connection.send(post() + post())
    assert connection.protocol.eof_received() is True
    connection.finish()
    assert len(connection.answers()) == 2
    assert connection.transport.closed


def test_a_client_that_ends_in_mid_request_is_closed():
    connection = Connection()
    connection.send(post()[:-1])
    assert not connection.protocol.eof_received()


def test_requests_before_one_that_is_cut_off_are_answered():
    connection = Connection()
    connection.send(post() + post()[:-1])
    assert connection.protocol.eof_received() is True
    connection.finish()
    assert connection.answer()[0] == 200
    assert connection.transport.closed
    assert len(connection.core.submitted) == 1


# Upgrade, garbage.


@pytest.mark.parametrize("pieces", [1, 0])
def test_a_body_behind_an_h2c_upgrade_is_read(pieces):
    # The parser ends such a message after its headers. Java's client sends them.
    connection = Connection()
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
    request = post(body=b"first", headers=upgrade) + post(body=b"second", headers=upgrade)
    request += post(body=b"third")
    step = pieces or len(request)
    connection.send(*(request[n : n + step] for n in range(0, len(request), step)))
    assert [submitted.body for submitted in connection.core.submitted] == [
        b"first",
        b"second",
        b"third",
    ]
    connection.finish()
    assert [status for status, _, _ in connection.answers()] == [200] * 3
    assert not connection.transport.closed


def test_a_chunked_body_behind_an_h2c_upgrade_is_read():
    connection = Connection()
    head = b"POST /e HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + post())
    assert [submitted.body for submitted in connection.core.submitted] == [b"ab", b"{}"]


def test_an_upgrade_without_a_body_is_answered():
    connection = Connection()
    connection.send(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + post())
    connection.finish()
    assert [status for status, _, _ in connection.answers()] == [200, 200]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"POST /e HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /e HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_garbage_is_400_and_the_end(garbage):
    connection = Connection()
    connection.send(garbage, b"more")
    status, headers, _ = connection.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert connection.transport.eof_written
    connection.pass_time(LINGER_SECONDS)
    assert connection.transport.closed


def test_garbage_behind_a_request_is_answered_after_it():
    connection = Connection()
    connection.send(post() + b"\x00\x00")
    assert connection.transport.written == b""
    connection.finish()
    assert [status for status, _, _ in connection.answers()] == [200, 400]


# Expect.


def test_the_body_is_invited_when_expected():
    connection = Connection()
    request = post(body=b"body", headers=("Expect: 100-continue",))
    connection.send(request[:-4])
    assert connection.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(b"body")
    connection.finish()
    assert connection.answer()[0] == 200


def test_the_invitation_keeps_the_order_of_answers():
    connection = Connection()
    connection.send(post() + post(body=b"body", headers=("Expect: 100-continue",))[:-4])
    assert connection.transport.written == b""
    connection.finish()
    assert [status for status, _, _ in connection.answers()] == [200, 100]


@pytest.mark.parametrize(
    ("path", "size", "expectation", "status"),
    [("/e", 101, "100-continue", 413), ("/e", 5, "the-best", 417), ("/no", 5, "100-continue", 404)],
)
def test_an_expectant_client_is_refused_before_it_sends_its_body(path, size, expectation, status):
    connection = Connection(max_request_bytes=100)
    head = post(path, b"x" * size, (f"Expect: {expectation}",))[:-size]
    connection.send(head)
    got, headers, _ = connection.answer()
    assert (got, headers["connection"]) == (status, "close")
    assert connection.transport.eof_written


def test_http_1_0_expects_nothing():
    connection = Connection()
    connection.send(b"POST /e HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    assert connection.transport.written == b""


# Limits on size.


def test_body_at_the_limit_is_taken():
    connection = Connection(max_request_bytes=100)
    connection.send(post(body=b"x" * 100))
    assert len(connection.core.submitted[0].body) == 100


def test_body_one_byte_over_the_limit_is_thrown_away_and_then_refused():
    connection = Connection(max_request_bytes=100)
    request = post(body=b"x" * 101)
    connection.send(request[:-50])
    assert connection.transport.written == b""
    connection.send(request[-50:])
    status, headers, body = connection.answer()
    assert (status, body) == (413, TOO_LARGE)
    assert "connection" not in headers
    assert connection.core.submitted == []
    # All of it was read, so the connection is as good as before.
    connection.send(post())
    assert len(connection.core.submitted) == 1


def test_body_far_over_the_limit_is_refused_before_it_is_read():
    connection = Connection(max_request_bytes=100)
    size = 100 + MAX_DISCARDED_BYTES + 1
    connection.send(b"POST /e HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
    assert connection.answer()[0] == 413
    assert connection.transport.eof_written
    connection.send(b"x" * 1000)
    assert not connection.transport.closed
    connection.pass_time(LINGER_SECONDS)
    assert connection.transport.closed


def test_a_client_that_sends_for_ever_after_its_refusal_is_cut_off():
    connection = Connection(max_request_bytes=100)
    connection.send(b"POST /e HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
    piece = b"x" * (1 << 20)
    for _ in range(MAX_DISCARDED_BYTES // len(piece)):
        connection.send(piece)
    assert not connection.transport.aborted
    connection.send(b"x")
    assert connection.transport.aborted


def test_chunked_body_at_the_limit_is_taken_and_one_over_is_refused():
    connection = Connection(max_request_bytes=10)
    connection.send(chunked(b"x" * 4, b"y" * 6))
    assert connection.core.submitted[0].body == b"xxxxyyyyyy"
    connection = Connection(max_request_bytes=10)
    connection.send(chunked(b"x" * 4, b"y" * 7) + post())
    assert connection.answer()[::2] == (413, TOO_LARGE)
    assert len(connection.core.submitted) == 1


def test_tiny_chunks_do_not_multiply_in_memory():
    # As a list of pieces, these would take 56 bytes for every two.
    connection = Connection()
    connection.send(b"POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    tracemalloc.start()
    for _ in range(10):
        connection.send(b"2\r\nab\r\n" * 10_000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * 200_000
    connection.send(b"0\r\n\r\n")
    assert connection.core.submitted[0].body == b"ab" * 100_000


def test_single_chunk_over_the_limit_is_refused():
    connection = Connection(max_request_bytes=10)
    connection.send(chunked(b"x" * 11))
    assert connection.answer()[0] == 413


def test_endless_chunked_body_is_refused_before_it_ends():
    connection = Connection(max_request_bytes=10)
    connection.send(b"POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    for _ in range(MAX_DISCARDED_BYTES >> 20):
        connection.send(piece)
    assert connection.transport.written == b""
    connection.send(piece)
    assert connection.answer()[0] == 413


def header_of(size):
    return f"X-Large: {'x' * (size - len('X-Large'))}"


def test_headers_at_the_limit_are_taken_and_one_byte_more_is_refused():
    other = len("Host") + len("x") + len("Content-Length") + len("2")
    connection = Connection()
    connection.send(post(headers=(header_of(MAX_HEADER_BYTES - other),)))
    assert len(connection.core.submitted) == 1
    connection = Connection()
    connection.send(post(headers=(header_of(MAX_HEADER_BYTES - other + 1),)))
    assert connection.answer()[0] == 431
    assert connection.core.submitted == []


def test_number_of_headers_is_limited():
    extra = tuple(f"X-{n}: 1" for n in range(MAX_HEADERS - 2))
    connection = Connection()
    connection.send(post(headers=extra))
    assert len(connection.core.submitted) == 1
    connection = Connection()
    connection.send(post(headers=(*extra, "X-More: 1")))
    assert connection.answer()[0] == 431


def test_endless_headers_are_refused_before_they_end():
    connection = Connection()
    connection.send(b"POST /e HTTP/1.1\r\n")
    for number in range(MAX_HEADERS + 2):
        connection.send(b"X-%d: 1\r\n" % number)
    assert connection.answer()[0] == 431


def test_one_endless_header_is_refused_before_it_ends():
    # The parser gathers a header that comes in pieces without a limit of its own.
    connection = Connection()
    connection.send(b"POST /e HTTP/1.1\r\nX-Endless: ")
    for _ in range(MAX_HEAD_BYTES // 1024 + 2):
        connection.send(b"x" * 1024)
    assert connection.answer()[0] == 431


def test_url_at_the_limit_is_taken_and_one_byte_more_is_refused():
    connection = Connection()
    connection.send(post("/e?a=".ljust(MAX_URL_BYTES, "x")))
    assert len(connection.core.submitted) == 1
    connection = Connection()
    connection.send(post("/e?a=".ljust(MAX_URL_BYTES + 1, "x")))
    assert connection.answer()[0] == 414


def test_endless_url_is_refused_before_it_ends():
    connection = Connection()
    connection.send(b"POST /e?")
    for _ in range(MAX_URL_BYTES // 1024 + 1):
        connection.send(b"x" * 1024)
    assert connection.answer()[0] == 414


def test_trailers_past_the_limit_of_a_head_are_refused():
    # The parser gathers them as it does headers: without a limit and without a word.
    connection = Connection()
    connection.send(chunked(b"{}", end=b"0\r\nX-Endless: "))
    for _ in range(MAX_HEAD_BYTES // 1024):
        connection.send(b"x" * 1024)
    assert connection.transport.written == b""
    assert connection.front.receiving_bytes > MAX_HEAD_BYTES - 1024
    connection.send(b"x" * 1024)
    assert connection.answer()[0] == 431
    assert connection.front.receiving_bytes == 0
    assert connection.core.submitted == []


def test_many_trailers_are_refused_and_a_few_are_taken():
    connection = Connection()
    connection.send(chunked(b"{}", end=b"0\r\nDigest: abc\r\n\r\n"))
    assert connection.core.submitted[0].body == b"{}"
    connection = Connection()
    connection.send(chunked(b"{}", end=b"0\r\n"))
    for _ in range(MAX_HEAD_BYTES // 6000 + 1):
        connection.send(b"X: 1\r\n" * 1000)
    assert connection.answer()[0] == 431


def test_trailers_of_a_refused_body_are_bounded_too():
    connection = Connection(max_request_bytes=1)
    connection.send(chunked(b"{", b"}", end=b"0\r\nX-Endless: "))
    for _ in range(MAX_HEAD_BYTES // 1024 + 1):
        connection.send(b"x" * 1024)
    assert connection.answer()[0] == 413


def test_trailers_are_not_taken_for_headers():
    # They would let a client choose its address behind a proxy that knows no trailers.
    connection = Connection(trusted_proxies=1)
    trailers = b"0\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Encoding: gzip\r\nOrigin: x\r\n\r\n"
    head = b"POST /e HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.send(head + b"2\r\n{}\r\n" + trailers)
    (submitted,) = connection.core.submitted
    assert (submitted.client_address, submitted.coding) == ("1.1.1.1", 0)
    connection.finish()
    assert "access-control-allow-origin" not in connection.answer()[1]


def test_the_first_read_of_an_unfinished_head_counts():
    connection = Connection()
    connection.send(b"POST /e HTTP/1.1\r\nX-Endless: " + b"x" * MAX_HEAD_BYTES)
    assert connection.answer()[0] == 431


def test_a_head_behind_another_request_is_not_charged_with_its_bytes():
    # Only what is known to be the head's own counts against its limit.
    connection = Connection()
    connection.send(post(body=b"x" * MAX_HEAD_BYTES) + b"POST /e HTTP/1.1\r\nHo")
    connection.send(b"st: x\r\nContent-Length: 2\r\n\r\n{}")
    assert len(connection.core.submitted) == 2
    assert connection.front.receiving_bytes == 0


def test_unfinished_heads_share_the_budget_and_past_it_are_overload():
    first = Connection(max_receiving_bytes=150)
    second = Connection(first.core, front=first.front)
    part = b"POST /e HTTP/1.1\r\nX: ".ljust(80, b"x")
    first.send(part)
    assert first.front.receiving_bytes == 80
    second.send(part)
    status, headers, _ = second.answer()
    assert (status, headers["retry-after"]) == (503, "1")
    first.send(b"\r\nContent-Length: 2\r\n\r\n{}")
    assert first.front.receiving_bytes == 0
    assert len(first.core.submitted) == 1


def test_answers_that_wait_for_their_turn_count_as_what_waits():
    connection = Connection(peername=None)
    connection.send(post())
    before = connection.protocol._pending_bytes
    origin = "https://" + "x" * 1000
    connection.send(post("/nowhere", headers=(f"Origin: {origin}",)))
    assert connection.protocol._pending_bytes - before > 1000
    connection.finish()
    assert connection.protocol._pending_bytes == 0
    assert len(connection.answers()) == 2


def test_unfinished_bodies_share_a_budget_and_past_it_are_overload():
    first = Connection(max_receiving_bytes=150)
    second = Connection(first.core, front=first.front)
    request = post(body=b"x" * 100)
    first.send(request[:-20])
    second.send(request[:-20])
    assert first.front.receiving_bytes == 80
    second.send(request[-20:])
    status, headers, _ = second.answer()
    assert (status, headers["retry-after"]) == (503, "1")
    first.send(request[-20:])
    assert first.front.receiving_bytes == 0
    assert len(first.core.submitted) == 1


def test_the_budget_of_a_lost_connection_is_given_back():
    connection = Connection()
    connection.send(post(body=b"x" * 100)[:-20])
    assert connection.front.receiving_bytes == 80
    connection.protocol.connection_lost(None)
    assert connection.front.receiving_bytes == 0


def test_connections_above_the_limit_are_told_so_and_far_above_are_cut():
    first = Connection(max_connections=1)
    second = Connection(first.core, front=first.front)
    status, headers, _ = second.answer()
    assert (status, headers["retry-after"], headers["connection"]) == (503, "2", "close")
    first.send(post())
    assert len(first.core.submitted) == 1
    others = [Connection(first.core, front=first.front) for _ in range(MAX_REFUSED_CONNECTIONS)]
    assert [other.transport.aborted for other in others[-2:]] == [False, True]


# Time.


def test_slow_headers_end_in_408():
    connection = Connection()
    connection.send(b"POST /e HT")
    connection.pass_time(9.9)
    connection.send(b"TP/1.1\r\n")
    assert connection.transport.written == b""
    connection.pass_time(0.1)
    assert connection.answer()[::2] == (408, STOPPED)


def test_what_we_did_not_read_is_no_fault_of_the_client():
    # A burst of pipelined requests, the last of them cut by our own pause.
    connection = Connection()
    connection.send(post() * (MAX_PIPELINED_REQUESTS + 1) + post()[:20])
    assert not connection.transport.reading
    connection.pass_time(1000)
    assert connection.transport.written == b""
    connection.finish()
    connection.pass_time(9.9)
    assert len(connection.answers()) == MAX_PIPELINED_REQUESTS + 1
    connection.send(post()[20:])
    connection.finish()
    assert connection.answer()[0] == 200


def test_the_time_to_write_answers_is_not_the_clients_to_send():
    connection = Connection(header_timeout_seconds=10.0, write_timeout_seconds=30.0)
    connection.send(post() + post()[:20])
    connection.protocol.pause_writing()
    connection.finish()
    connection.pass_time(20)
    connection.protocol.resume_writing()
    connection.pass_time(9.9)
    assert connection.answer()[0] == 200
    connection.pass_time(0.1)
    assert connection.answer()[0] == 408


def test_slow_body_ends_in_408_only_after_silence():
    connection = Connection()
    request = post(body=b"x" * 10)
    connection.send(request[:-5])
    connection.pass_time(29.9)
    connection.send(request[-5:-4])
    connection.pass_time(29.9)
    assert connection.transport.written == b""
    connection.pass_time(0.1)
    assert connection.answer()[::2] == (408, STOPPED)


def test_a_body_in_drops_ends_in_408():
    connection = Connection(body_timeout_seconds=60.0)
    request = post(body=b"x" * 10)
    connection.send(request[:-5])
    connection.pass_time(25)
    connection.send(request[-5:-4])
    connection.pass_time(25)
    connection.send(request[-4:-3])
    connection.pass_time(10)
    assert connection.answer()[0] == 408


def test_idle_connections_are_closed_after_the_keep_alive_time():
    connection = Connection(keep_alive_timeout_seconds=75.0)
    connection.send(post())
    connection.finish()
    connection.pass_time(74.9)
    assert not connection.transport.closed
    connection.pass_time(0.1)
    assert connection.transport.closed


def test_a_slow_core_is_waited_for():
    connection = Connection()
    connection.send(post())
    connection.pass_time(1000)
    connection.finish()
    assert connection.answer()[0] == 200


def test_a_client_that_never_reads_is_cut_off():
    connection = Connection(write_timeout_seconds=30.0)
    connection.send(post())
    connection.protocol.pause_writing()
    connection.pass_time(30)
    assert connection.transport.aborted


def test_answers_carry_the_date_of_their_second(monkeypatch):
    connection = Connection(FakeCore())
    monkeypatch.setattr("penstock.transport.http_responses.time.time", lambda: 784111777.0)
    connection.pass_time(1)
    connection.send(post())
    connection.finish()
    assert connection.answer()[1]["date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
