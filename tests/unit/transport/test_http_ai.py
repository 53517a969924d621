"""The routes of AI events: what of a request reaches the core, and how it is answered."""

import json

import pytest

from penstock.starting import StartingCore
from support.fake_core import FakeRefusal, FakeResult
from unit.transport.harness import Connection, post

FORM = "Content-Type: multipart/form-data; boundary=x"
PROTOBUF = "Content-Type: application/x-protobuf"
JSON = "Content-Type: application/json"
BEARER = "Authorization: Bearer phc_a"


def sent(connection, path, *headers, body=b"body"):
    connection.send(post(path, body, headers))
    return connection.core.submitted[-1]


@pytest.mark.parametrize("ending", ["", "/", "?", "/?x=1"])
@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/i/v0/ai", 20),
        ("/i/v0/ai/otel", 21),
        ("/i/v0/ai/otel/v1/traces", 21),
        ("/i/v0/llma_otel", 21),
    ],
)
def test_each_path_leads_to_its_endpoint(path, endpoint, ending):
    assert sent(Connection(), path + ending).endpoint == endpoint


def test_routes_are_found_under_a_prefix_too():
    connection = Connection(prefixes=["/ingest"])
    assert sent(connection, "/ingest/i/v0/ai", FORM).head == (FORM.split(": ")[1], None, None)


def test_what_the_headers_say_goes_to_the_core():
    taken = sent(
        Connection(),
        "/i/v0/ai?sent_at=1767225600123",
        FORM,
        "authorization: bearer  phc_a ",
        "Content-Encoding: gzip",
    )
    assert taken.head == ("multipart/form-data; boundary=x", "phc_a", 1767225600123000)
    assert (taken.body, taken.coding) == (b"body", 2)


@pytest.mark.parametrize("value", ["", "phc_a", "Basic phc_a", "Bearer", "Bearer  "])
def test_other_authorizations_are_no_token(value):
    assert sent(Connection(), "/i/v0/ai", f"Authorization: {value}").head[1] is None


def test_headers_of_one_request_are_not_those_of_the_next():
    connection = Connection()
    sent(connection, "/i/v0/ai", FORM, BEARER)
    assert sent(connection, "/i/v0/ai").head == ("", None, None)


def test_headers_of_other_routes_are_not_looked_at():
    assert sent(Connection(), "/batch/", BEARER, JSON).head is None


def test_data_in_a_query_is_no_form():
    assert sent(Connection(), "/i/v0/ai?data=e30", FORM).body == b"body"


def test_the_core_s_answer_goes_out_as_it_is():
    connection = Connection()
    sent(connection, "/i/v0/ai", FORM, BEARER)
    connection.finish(FakeResult(answer=b'{"accepted_parts":[]}'))
    status_code, headers, body = connection.answer()
    assert (status_code, body) == (200, b'{"accepted_parts":[]}')
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_answers_to_an_export_have_its_type(kind):
    connection = Connection()
    sent(connection, "/i/v0/ai/otel", kind, BEARER)
    connection.finish(FakeResult(accepted=2, rejected=1, answer=b"from the core"))
    status_code, headers, body = connection.answer()
    assert (status_code, body) == (200, b"from the core")
    assert headers["content-type"] == kind.split(": ")[1]


def refuse(kind, refusal, path="/i/v0/ai/otel"):
    connection = Connection()
    connection.core.refusal = refusal
    connection.send(post(path, b"body", [kind, "Origin: https://shop.example"]))
    return connection.answer()


OVERLOADED = FakeRefusal(retry_after_seconds=3)


def test_an_export_in_json_is_refused_by_a_status_in_json():
    status_code, headers, body = refuse(JSON, OVERLOADED)
    assert (status_code, headers["retry-after"]) == (503, "3")
    assert headers["access-control-allow-origin"] == "https://shop.example"
    text = "server is overloaded, please retry"
    assert json.loads(body) == {"code": 14, "message": text, "error": text}
    assert headers["content-type"] == "application/json"


def test_an_export_in_protobuf_is_refused_by_a_status_in_protobuf():
    status_code, headers, body = refuse(PROTOBUF, OVERLOADED)
    assert (status_code, headers["content-type"]) == (503, "application/x-protobuf")
    # Status { int32 code = 1; string message = 2 }.
    assert body == b"\x08\x0e\x12\x22server is overloaded, please retry"


def test_a_form_is_refused_in_words():
    status_code, headers, body = refuse(FORM, OVERLOADED, "/i/v0/ai")
    assert (status_code, body) == (503, b"server is overloaded, please retry")
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/i/v0/ai", "/i/v0/ai/otel"])
def test_a_request_of_which_nothing_is_taken_is_a_4xx(path):
    connection = Connection()
    sent(connection, path, JSON, BEARER)
    rejection = (0, "not_an_ai_event", "failed to parse request")
    result = FakeResult(accepted=0, rejected=1, first_rejection=rejection, answer=b"not this")
    connection.finish(result)
    status_code, _, body = connection.answer()
    assert status_code == 400
    assert b"failed to parse request: event 0: not_an_ai_event" in body


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_nothing_but_post_is_taken(method):
    connection = Connection()
    connection.send(f"{method} /i/v0/ai?data=e30 HTTP/1.1\r\n\r\n".encode())
    status_code, headers, _ = connection.answer()
    assert (status_code, headers["allow"]) == (405, "POST, OPTIONS")
    assert not connection.core.submitted


def test_a_preflight_is_answered():
    connection = Connection()
    lines = [
        "OPTIONS /i/v0/ai/otel HTTP/1.1",
        "Origin: https://shop.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization, content-type",
    ]
    connection.send("\r\n".join([*lines, "", ""]).encode())
    status_code, headers, _ = connection.answer()
    assert status_code == 200
    assert headers["access-control-allow-headers"] == "authorization, content-type"


@pytest.mark.parametrize(("path", "maximum"), [("/i/v0/ai", 28 << 20), ("/i/v0/ai/otel", 4 << 20)])
def test_bodies_have_limits_of_their_own(path, maximum):
    connection = Connection(max_request_bytes=1 << 20)
    head = f"POST {path} HTTP/1.1\r\n{JSON}\r\nContent-Length: %d\r\n\r\n"
    connection.send((head % maximum).encode(), bytes(maximum))
    assert len(connection.core.submitted[-1].body) == maximum
    connection.finish()
    assert connection.answer()[0] == 200
    connection.send((head % (maximum + 1)).encode(), bytes(maximum + 1))
    assert connection.answer()[0] == 413
    assert len(connection.core.submitted) == 1


def test_other_routes_keep_the_limit_of_the_settings():
    connection = Connection(max_request_bytes=10)
    connection.send(post("/batch/", bytes(11)))
    assert connection.answer()[0] == 413


def test_an_unknown_coding_is_refused_unless_the_bytes_tell_theirs():
    connection = Connection()
    connection.send(post("/i/v0/ai/otel", b"body", ["Content-Encoding: zip", JSON]))
    status_code, _, body = connection.answer()
    assert (status_code, json.loads(body)["code"]) == (400, 3)
    taken = sent(connection, "/i/v0/ai/otel", "Content-Encoding: zip", body=b"\x1f\x8b\x08")
    assert taken.coding == 0


@pytest.mark.parametrize(("path", "kind"), [("/i/v0/ai", FORM), ("/i/v0/ai/otel", PROTOBUF)])
def test_while_the_core_is_being_opened_all_are_told_to_come_back(path, kind):
    connection = Connection(core=StartingCore())
    connection.send(post(path, b"body", [kind]))
    status_code, headers, body = connection.answer()
    assert (status_code, headers["retry-after"]) == (503, "1")
    assert b"server is starting" in body


def test_while_draining_an_export_is_told_to_come_back():
    connection = Connection()
    connection.front.begin_drain()
    connection.send(post("/i/v0/ai/otel", b"body", [JSON]))
    status_code, headers, body = connection.answer()
    assert (status_code, headers["retry-after"], json.loads(body)["code"]) == (503, "2", 14)
