"""Records sent to a service that answers as a test says."""

import http.server
import sys
import threading
from typing import Any

import pytest

from penstock.errors import PenstockError
from penstock.tools.http_form import HttpForm
from penstock.tools.sending import MAX_WAIT_SECONDS, Sender, SendError
from penstock.tools.wal_replay import send_records
from support.log_records import FakeRecord


class Service:
    """A service on loopback whose answers are given beforehand; the last one is given for ever."""

    def __init__(self):
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(200, {}, b'{"status":"Ok"}')]
        self.requests: list[Any] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.requests.append((self.path, dict(self.headers), body))
                status, headers, text = service.answers[0]
                if len(service.answers) > 1:
                    service.answers.pop(0)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(text))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service():
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, args=(0.01,))
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()


@pytest.fixture
def slept():
    return []


@pytest.fixture
def sender(service, slept):
    sender = Sender(service.url + "/base/", sleep=slept.append, unix_micros=lambda: 0)
    yield sender
    sender.close()


def test_a_record_goes_to_its_own_endpoint(service, sender):
    assert sender.send(FakeRecord(endpoint="track", body=b"x"))
    assert [(path, body) for path, _, body in service.requests] == [("/base/track", b"x")]


def test_503_is_asked_again_after_the_time_that_it_names(service, sender, slept):
    service.answers = [(503, {"Retry-After": "7"}, b""), (503, {}, b""), (200, {}, b"")]
    assert sender.send(FakeRecord())
    assert slept == [7.0, 1.0]
    assert len(service.requests) == 3


def test_503_is_given_up_in_the_end(service, sender, slept):
    service.answers = [(503, {"Retry-After": "3600"}, b"no\x1bpe")]
    with pytest.raises(SendError, match="answered 503: no pe") as caught:
        sender.send(FakeRecord())
    assert not caught.value.of_record
    assert sum(slept) == MAX_WAIT_SECONDS


def test_a_refusal_is_expected_only_of_what_was_refused_before(service, sender):
    service.answers = [(400, {}, b"missing_event_name")]
    assert not sender.send(FakeRecord(accepted=0, duplicates=0, rejected=2))
    with pytest.raises(SendError, match="answered 400: missing_event_name") as caught:
        sender.send(FakeRecord(accepted=0, duplicates=1))
    assert caught.value.of_record


V1 = "i/v1/analytics/events"


def v1_answer(*results):
    pairs = (f'"u{index}":{{"result":"{result}"}}' for index, result in enumerate(results))
    return f'{{"results":{{{",".join(pairs)}}}}}'.encode()


def test_capture_v1_is_asked_again_for_what_it_could_not_store(service, sender, slept):
    service.answers = [
        (200, {"Retry-After": "3"}, v1_answer("ok", "retry", "drop")),
        (503, {"Retry-After": "4"}, b"{}"),
        (200, {}, v1_answer("ok", "warning", "drop")),
    ]
    assert sender.send(FakeRecord(endpoint=V1))
    assert slept == [3.0, 4.0]


def test_capture_v1_refuses_under_200(service, sender):
    service.answers = [(200, {}, v1_answer("drop", "drop"))]
    assert not sender.send(FakeRecord(endpoint=V1, accepted=0, duplicates=0, rejected=2))
    with pytest.raises(SendError, match=r'answered 200: {"results"') as caught:
        sender.send(FakeRecord(endpoint=V1))
    assert caught.value.of_record
    # Elsewhere a 200 is all that there is to know.
    assert sender.send(FakeRecord())


def test_an_answer_of_capture_v1_may_be_long(service, sender):
    service.answers = [(200, {}, v1_answer(*["ok"] * 50_000))]
    assert sender.send(FakeRecord(endpoint=V1))


@pytest.mark.parametrize("answer", [b"", b"OK", b"7", b'{"status":"Ok"}', b'{"results":[]}'])
def test_who_answers_otherwise_does_not_speak_capture_v1(service, sender, answer):
    service.answers = [(200, {}, answer)]
    with pytest.raises(SendError, match="answered 200") as caught:
        sender.send(FakeRecord(endpoint=V1))
    assert not caught.value.of_record


def test_a_form_is_made_anew_for_each_try_and_refused_in_the_words_of_its_protocol(service):
    clock = iter((1, 2))
    sender = Sender(service.url, sleep=lambda _: None, unix_micros=lambda: next(clock))
    made = []

    def form(now_us):
        made.append(now_us)
        return HttpForm(V1, {}, b"{}")

    service.answers = [
        (200, {}, v1_answer("retry")),
        (200, {}, b'{"results":{"u":{"result":"drop","details":"invalid_options"}}}'),
    ]
    assert sender.send_form(form) == "invalid_options"
    assert made == [1, 2]
    sender.close()


@pytest.mark.parametrize(
    ("target", "answer", "refusal"),
    [
        (V1, (200, {}, v1_answer("warning")), None),
        (V1, (200, {}, v1_answer("drop")), v1_answer("drop").decode()),
        (V1, (400, {}, b'{"error":"x"}'), '{"error":"x"}'),
        ("batch", (400, {}, b"no"), "no"),
        ("batch", (200, {}, b'{"status":"Ok"}'), None),
    ],
)
def test_a_form_is_stored_or_refused_as_its_protocol_says(service, sender, target, answer, refusal):
    service.answers = [answer]
    assert sender.send_form(lambda _: HttpForm(target, {}, b"{}")) == refusal


def test_a_wrong_address_is_no_refusal_of_a_record(service, sender):
    service.answers = [(404, {}, b"")]
    with pytest.raises(SendError) as caught:
        sender.send(FakeRecord(accepted=0, duplicates=0, rejected=1))
    assert not caught.value.of_record


def test_a_lost_answer_is_not_sent_again(service, sender):
    service.answers = [(0, {}, b"")]
    with pytest.raises(SendError, match="may be stored or not"):
        sender.send(FakeRecord())
    assert len(service.requests) == 1


def test_nobody_there_is_said():
    service = Service()
    service.server.server_close()
    with pytest.raises(SendError, match="can't be reached"):
        Sender(service.url).send(FakeRecord())


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://x:y", "http://x/?q=1"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(SendError, match="is not a URL"):
        Sender(url)


def test_replay_stops_at_the_first_error_and_names_the_last_position_done(service, sender):
    service.answers = [(200, {}, b""), (200, {}, b""), (401, {}, b"unknown token")]
    records = [FakeRecord(position=position) for position in (4, 6, 7, 8)]
    with pytest.raises(PenstockError) as caught:
        send_records(records, sender, sys.stdout, sys.stderr)
    assert str(caught.value) == (
        "position 7: the service answered 401: unknown token; last position done: 6"
    )
    assert len(service.requests) == 3


def test_replay_passes_over_what_cannot_be_read_and_says_so(sender, capsys):
    records = [FakeRecord(position=1), FakeRecord(position=2, problem="record context is damaged")]
    assert not send_records(records, sender, sys.stdout, sys.stderr)
    printed = capsys.readouterr()
    assert printed.err == "warning: position 2: record context is damaged; not sent\n"
    assert printed.out == "sent 1 record; last position done: 1\n1 record not sent\n"
