"""AI events as forms and as spans, against a real server with the real core behind it."""

import gzip
import json
import uuid

import pytest

from support import otlp
from support.command import run_penstock

pytestmark = pytest.mark.service

BOUNDARY = "----of-a-test"
FORM = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
PROTOBUF = ("Content-Type", "application/x-protobuf")
JSON = ("Content-Type", "application/json")
ORIGIN = ("Origin", "https://shop.example")


def bearer(token):
    return ("Authorization", f"Bearer {token}")


def form(*parts):
    """Write a form of (name, content type, data)."""
    body = b""
    for name, content_type, data in parts:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        body += head.encode() + b"\r\n" + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def ai_event(distinct_id="ada", name="$ai_generation", **fields):
    fields = {"uuid": str(uuid.uuid4()), "properties": {"$ai_model": "m"}} | fields
    return json.dumps({"event": name, "distinct_id": distinct_id} | fields).encode()


def send_form(server, token, *parts, headers=()):
    return server.request(
        "POST", "/i/v0/ai", body=form(*parts), headers=[FORM, bearer(token), *headers]
    )


def send_export(server, token, body, *headers):
    return server.request("POST", "/i/v0/ai/otel", body=body, headers=[bearer(token), *headers])


def rows_of(server, token, columns="event, distinct_id, properties"):
    return server.query(f"SELECT {columns} FROM events WHERE token = '{token}' ORDER BY uuid")


def test_a_form_is_one_event_with_its_blobs_in_it(running_server):
    event = ai_event()
    blob = b"\x00\x01binary\r\n--" + BOUNDARY[:-1].encode()
    said = json.dumps([{"role": "user", "content": "h\u00e9"}]).encode()
    response = send_form(
        running_server,
        "phc_form",
        ("event", "application/json", event),
        ("event.properties.$ai_input", "application/json", said),
        ("event.properties.raw", "application/octet-stream", blob),
    )
    assert response.status == 200
    assert response.header("content-type") == "application/json"
    parts = response.json()["accepted_parts"]
    assert [(part["name"], part["length"], part["content-type"]) for part in parts] == [
        ("event", len(event), "application/json"),
        ("event.properties.$ai_input", len(said), "application/json"),
        ("event.properties.raw", len(blob), "application/octet-stream"),
    ]
    ((row,),) = [rows_of(running_server, "phc_form")]
    assert (row["event"], row["distinct_id"]) == ("$ai_generation", "ada")
    properties = json.loads(row["properties"])
    assert properties["$ai_input"] == [{"role": "user", "content": "h\u00e9"}]
    assert properties["raw"].startswith("data:application/octet-stream;base64,")


def test_a_form_that_is_sent_again_is_stored_once(running_server):
    event = ai_event()
    zipped = gzip.compress(form(("event", "", event)))
    headers = [FORM, bearer("phc_again"), ("Content-Encoding", "gzip")]
    assert send_form(running_server, "phc_again", ("event", "", event)).status == 200
    again = running_server.request("POST", "/i/v0/ai/", body=zipped, headers=headers)
    assert again.status == 200
    assert len(again.json()["accepted_parts"]) == 1
    assert len(rows_of(running_server, "phc_again")) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"", [FORM, bearer("t")], 400, "request missing data payload"),
        (b"x", [bearer("t")], 400, "must be multipart/form-data"),
        (b"x", [JSON, bearer("t")], 400, "must be multipart/form-data"),
        (b"x", [("Content-Type", "multipart/form-data"), bearer("t")], 400, "boundary"),
        (b"x", [FORM], 401, "event submitted without an api_key"),
        (b"x", [FORM, bearer("phx_a")], 401, "API key is not valid: personal_api_key"),
        (b"x", [FORM, bearer("t")], 400, "invalid multipart data"),
        (form(("event", "", ai_event()))[:-20], [FORM, bearer("t")], 400, "cut short"),
        (form(("other", "", b"{}")), [FORM, bearer("t")], 400, "first part"),
        (form(("event", "", b"x" * 40_000)), [FORM, bearer("t")], 413, "maximum event size"),
        (form(("event", "", ai_event(name="seen"))), [FORM, bearer("t")], 400, "$ai_"),
        (form(("event", "", ai_event(properties={}))), [FORM, bearer("t")], 400, "$ai_model"),
        (form(("event", "", ai_event(""))), [FORM, bearer("t")], 400, "without a distinct_id"),
        (
            b"\x1f\x8b\x08x",
            [FORM, bearer("t"), ("Content-Encoding", "gzip")],
            400,
            "invalid GZIP data",
        ),
    ],
)
def test_what_is_no_form_of_an_event_is_refused_in_words(
    running_server, body, headers, status, text
):
    response = running_server.request("POST", "/i/v0/ai", body=body, headers=[*headers, ORIGIN])
    assert response.status == status, response.body
    assert text in response.body.decode()
    assert response.header("access-control-allow-origin") == ORIGIN[1]
    assert response.header("content-type") == "text/plain; charset=utf-8"


def test_a_refused_event_is_kept_with_its_reason(running_server):
    response = send_form(running_server, "phc_refused", ("event", "", ai_event(name="seen")))
    assert response.status == 400
    sql = "SELECT endpoint, reason, event FROM rejected WHERE token = 'phc_refused'"
    assert running_server.query(sql) == [
        {"endpoint": "i/v0/ai", "reason": "not_an_ai_event", "event": "seen"}
    ]


def test_a_form_of_many_mebibytes_is_stored(running_server):
    blob = bytes(range(256)) * (90 << 10)
    response = send_form(
        running_server,
        "phc_large",
        ("event", "", ai_event()),
        ("event.properties.blob", "application/octet-stream", blob),
    )
    assert response.status == 200
    sql = "SELECT length(properties) AS n FROM events WHERE token = 'phc_large'"
    ((row,),) = [running_server.query(sql)]
    assert row["n"] > len(blob) * 4 // 3


@pytest.mark.parametrize("path", ["/i/v0/ai/otel", "/i/v0/ai/otel/v1/traces", "/i/v0/llma_otel"])
@pytest.mark.parametrize(("kind", "write"), [(PROTOBUF, otlp.as_protobuf), (JSON, otlp.as_json)])
def test_spans_about_ai_become_events(running_server, path, kind, write):
    token = f"phc_{kind[1][-4:]}_{path[-6:].replace('/', '_')}"
    spans = [
        otlp.chat(1, posthog_distinct_id="no", gen_ai_tokens=7),
        otlp.span(2, "GET /", http_method="GET"),
        otlp.span(3, traceloop_workflow="w"),
    ]
    spans[0]["attributes"]["posthog.distinct_id"] = "ada"
    body = gzip.compress(write(*spans))
    headers = [bearer(token), kind, ("Content-Encoding", "gzip")]
    response = running_server.request("POST", path, body=body, headers=headers)
    assert response.status == 200
    assert response.header("content-type") == kind[1]
    assert response.body == (b"" if kind is PROTOBUF else b"{}")
    columns = "event, distinct_id, epoch_us(timestamp) AS at, lib, properties"
    rows = {row["event"]: row for row in rows_of(running_server, token, columns)}
    assert sorted(rows) == ["$ai_generation", "$ai_span"]
    generation = rows["$ai_generation"]
    assert (generation["distinct_id"], generation["lib"]) == ("ada", "posthog-otel")
    assert generation["at"] == otlp.START_NS // 1000
    properties = json.loads(generation["properties"])
    assert properties["gen.ai.tokens"] == 7
    assert properties["$ai_trace_id"] == "0" * 31 + "1"
    assert properties["$ai_ingestion_source"] == "otel"


def test_an_export_that_is_sent_again_is_stored_once_in_whichever_encoding(running_server):
    spans = [otlp.chat(number) for number in range(1, 6)]
    for body, kind in [
        (otlp.as_protobuf(*spans), PROTOBUF),
        (otlp.as_json(*spans[::-1]), JSON),
        (otlp.as_protobuf(*spans[2:], otlp.chat(6)), PROTOBUF),
    ]:
        assert send_export(running_server, "phc_retry", body, kind).status == 200
    assert len(rows_of(running_server, "phc_retry")) == 6


@pytest.mark.parametrize(
    ("body", "kind"), [(b"{}", JSON), (otlp.as_protobuf(otlp.span(1)), PROTOBUF)]
)
def test_an_export_without_ai_is_a_success_and_leaves_nothing(running_server, body, kind):
    response = send_export(running_server, "phc_nothing", body, kind)
    assert (response.status, response.header("content-type")) == (200, kind[1])
    assert rows_of(running_server, "phc_nothing") == []


def test_spans_that_are_not_stored_are_told_as_partial_success(start):
    server = start(max_event_bytes=1 << 20)
    large = otlp.chat(1, x="x" * (1 << 20))
    good = otlp.chat(2)
    message = "maximum event size exceeded: event 0: event_too_large"
    response = send_export(server, "phc_part", otlp.as_json(large, good), JSON)
    assert response.status == 200
    assert response.json() == {"partialSuccess": {"rejectedSpans": "1", "errorMessage": message}}
    response = send_export(server, "phc_part", otlp.as_protobuf(large, good), PROTOBUF)
    inner = b"\x08\x01\x12" + bytes([len(message)]) + message.encode()
    assert (response.status, response.body) == (200, b"\x0a" + bytes([len(inner)]) + inner)
    assert len(rows_of(server, "phc_part")) == 1
    # Nothing of it: no success.
    response = send_export(server, "phc_part", otlp.as_json(large), JSON)
    assert (response.status, response.json()["code"]) == (413, 3)


@pytest.mark.parametrize(
    ("body", "headers", "status", "number", "text"),
    [
        (b"\xff", [PROTOBUF, bearer("t")], 400, 3, "not a valid OTLP trace export"),
        (b"{", [JSON, bearer("t")], 400, 3, "failed to parse request"),
        (b"{}", [("Content-Type", "text/plain"), bearer("t")], 400, 3, "content type"),
        (b"{}", [JSON], 401, 16, "without an api_key"),
        (b"", [JSON, bearer("t")], 400, 3, "missing data payload"),
        (
            otlp.as_json(*[otlp.chat(1)] * 101),
            [JSON, bearer("t")],
            400,
            3,
            "too many spans",
        ),
        (b" " * ((4 << 20) + 1), [JSON, bearer("t")], 413, 3, "maximum event size"),
    ],
)
def test_what_is_no_export_is_refused_by_a_status(
    running_server, body, headers, status, number, text
):
    response = running_server.request(
        "POST", "/i/v0/ai/otel", body=body, headers=[*headers, ORIGIN]
    )
    assert response.status == status
    assert response.header("access-control-allow-origin") == ORIGIN[1]
    if PROTOBUF in headers:
        assert response.header("content-type") == PROTOBUF[1]
        assert response.body[:3] == bytes([0x08, number, 0x12])
        assert text.encode() in response.body
    else:
        assert response.json()["code"] == number
        assert text in response.json()["message"]
        assert response.json()["error"] == response.json()["message"]


def test_a_killed_server_gives_the_same_rows_from_its_log(start):
    settings = {"flush_interval_seconds": 3600}
    server = start(**settings)
    columns = "uuid, event, distinct_id, timestamp, received_at, properties, log_position"
    spans = [otlp.chat(number, n=number) for number in range(1, 30)]
    nameless = otlp.chat(99)
    nameless |= {"trace_id": b"", "span_id": b""}
    blob = b"\x00\r\n--" * 1000
    parts = [("event", "", ai_event(sent_at="2026-01-01T00:00:00Z")),
             ("event.properties.b", "application/octet-stream", blob)]  # fmt: skip
    assert send_form(server, "phc_kill", *parts).status == 200
    protobuf = gzip.compress(otlp.as_protobuf(*spans, nameless))
    assert send_export(server, "phc_kill", protobuf, PROTOBUF).status == 200
    assert send_export(server, "phc_kill", otlp.as_json(otlp.chat(50)), JSON).status == 200
    # By a reader of the log, before any table has them.
    before = rows_of(server, "phc_kill", columns)
    assert len(before) == 32

    server.kill()
    server = start(**settings)
    assert rows_of(server, "phc_kill", columns) == before
    # What comes again is known, although it was another process that took it.
    assert send_form(server, "phc_kill", *parts).status == 200
    assert send_export(server, "phc_kill", otlp.as_json(*spans), JSON).status == 200
    assert server.stop() == 0
    assert rows_of(server, "phc_kill", columns) == before


def wal(*arguments):
    return run_penstock("wal", *arguments)


@pytest.mark.timeout(180)  # nine processes, one after the other
def test_records_of_these_routes_are_shown_and_sent_again(start, tmp_path):
    server = start(flush_interval_seconds=3600)
    form_event = ai_event(sent_at="2026-01-01T00:05:00Z", timestamp="2026-01-01T00:00:00Z")
    blob = ("event.properties.b", "text/plain", b"two\nlines")
    assert send_form(server, "phc_tools", ("event", "", form_event), blob).status == 200
    zipped = gzip.compress(otlp.as_protobuf(otlp.chat(1)))
    assert send_export(server, "phc_tools", zipped, PROTOBUF).status == 200
    assert send_export(server, "phc_tools", otlp.as_json(otlp.chat(2)), JSON).status == 200
    refused = send_form(server, "phc_tools", ("event", "", ai_event(name="seen")))
    assert refused.status == 400

    done = wal("cat", "--data-dir", server.data_dir, "--json")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    shown = [(one["endpoint"], one["coding"], one["accepted"], one["rejected"]) for one in records]
    assert shown == [
        ("i/v0/ai", "identity", 1, 0),
        ("i/v0/ai/otel", "gzip", 1, 0),
        ("i/v0/ai/otel", "identity", 1, 0),
        ("i/v0/ai", "identity", 0, 1),
    ]
    assert all(record["token"] == "phc_tool…" for record in records)
    done = wal("cat", "--data-dir", server.data_dir, "--payload", 1)
    (event,) = json.loads(done.stdout)
    assert event["properties"] == {"$ai_model": "m", "b": "two\nlines"}

    other = start(tmp_path / "other")
    done = wal("replay", "--data-dir", server.data_dir, "--into", other.http_url)
    assert done.returncode == 0, done.stderr
    columns = "uuid, event, distinct_id, properties, token"
    first = rows_of(server, "phc_tools", columns)
    assert len(first) == 3
    assert rows_of(other, "phc_tools", columns) == first
    times = "epoch_ms(timestamp) AS at"
    for one, same in zip(
        rows_of(server, "phc_tools", times), rows_of(other, "phc_tools", times), strict=True
    ):
        # Put right by the client's clock to within the time that sending takes.
        assert abs(one["at"] - same["at"]) < 30_000
    sql = "SELECT reason FROM rejected WHERE token = 'phc_tools'"
    assert other.query(sql) == [{"reason": "not_an_ai_event"}]
