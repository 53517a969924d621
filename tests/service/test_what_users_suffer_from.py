"""What users of such services report, row by row of `posthog-protocol.md` §9, against a server.

Rows that are about clients alone have no test here: 14 is of timings, 16 and 20 say what they can.
"""

import base64
import gzip
import json
import socket
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import duckdb
import pytest

from durability.checks import check_log_was_let_go
from penstock import _core
from penstock.transport.http_routes import CAPTURE_ENDPOINTS
from support.http import read_response, request_bytes

pytestmark = pytest.mark.service

OK = (200, b'{"status":"Ok"}')
ORIGIN = "https://shop.example"


def event(name, **more):
    return {"event": name, "distinct_id": "ada", "properties": {"n": 1}, **more}


def batch(*events, token="phc_rows", **more):
    return {"api_key": token, "batch": events, **more}


def send(server, value, target="/batch/", headers=()):
    return server.request("POST", target, body=json.dumps(value).encode(), headers=headers)


def rows(server, name, columns="*", table="events"):
    return server.query(
        f"SELECT {columns} FROM {table} WHERE event = '{name}' ORDER BY batch_index"
    )


def name_of(row):
    """Make a name that no other test has."""
    return f"row {row} {uuid.uuid4()}"


def test_row_1_one_bad_event_does_not_poison_its_batch(running_server):
    name = name_of(1)
    bad = [
        event(name, uuid="no-uuid"),
        None,
        {"event": name},
        event(name, properties=[1]),
        event(7),
    ]
    response = send(running_server, batch(event(name), *bad, event(name)))
    assert (response.status, response.body) == OK
    assert [row["batch_index"] for row in rows(running_server, name)] == [0, 6]
    reasons = {row["reason"] for row in rows(running_server, name, table="rejected")}
    assert reasons == {"invalid_uuid", "missing_distinct_id", "invalid_properties"}


def test_row_1_a_request_of_one_bad_event_is_told_which_and_why(running_server):
    response = send(running_server, batch(event("x", uuid="no-uuid")))
    assert response.status == 400
    assert response.body.endswith(b": event 0: invalid_uuid")


def test_row_2_an_unknown_token_is_told_and_counted(start):
    server = start(projects='{"shop": {"tokens": ["phc_known"]}}')
    response = send(server, batch(event("x"), token="phc_unknown"))
    assert (response.status, response.body[:20]) == (401, b"API key is not valid")
    refused = 'penstock_engine_requests_refused_total{code="unknown_token"}'
    assert server.metric(refused) == 1
    assert server.metric('penstock_http_requests_total{route="batch",status="401"}') == 1
    assert send(server, batch(event("x"), token="phc_known")).status == 200


def test_row_3_nothing_that_is_answered_with_200_is_dropped_unseen(start):
    server = start()
    name = name_of(3)
    # What PostHog's own service discards without a word is stored as well.
    sent = [event(name), event("$performance_event"), event("$$heatmap"), {"event": name}]
    assert send(server, batch(*sent)).status == 200
    stored = server.query("SELECT event FROM events")
    refused = server.query("SELECT event FROM rejected")
    assert len(stored) + len(refused) == len(sent)
    counts = {
        code: server.metric(f"penstock_engine_events_{code}")
        for code in ('total{outcome="accepted"}', 'rejected_total{code="missing_distinct_id"}')
    }
    assert list(counts.values()) == [3, 1]


def test_row_4_an_event_that_is_too_large_costs_only_itself(start):
    server = start(max_event_bytes="2MiB")
    name = name_of(4)
    # Above the 1 MB that a message of Kafka may have.
    large = event(name, properties={"text": "x" * (3 << 19)})
    too_large = event(name, properties={"text": "x" * (2 << 20)})
    assert send(server, batch(event(name), large, too_large)).status == 200
    assert [row["batch_index"] for row in rows(server, name)] == [0, 1]
    (refused,) = rows(server, name, table="rejected")
    assert refused["reason"] == "event_too_large"
    alone = send(server, batch(too_large))
    assert (alone.status, alone.body[:27]) == (413, b"maximum event size exceeded")


def test_row_5_every_time_that_is_known_is_kept_beside_the_corrected_one(running_server):
    name = name_of(5)
    now = datetime.now(UTC)
    # A clock that is an hour behind, and a request that took long to arrive.
    sent_at = now - timedelta(hours=1)
    happened = sent_at - timedelta(minutes=10)
    body = batch(event(name, timestamp=happened.isoformat()), sent_at=sent_at.isoformat())
    assert send(running_server, body).status == 200
    (row,) = rows(
        running_server,
        name,
        "client_timestamp, epoch_us(sent_at) AS sent, epoch_us(received_at) AS received, "
        "epoch_us(timestamp) AS corrected, batch_index",
    )
    assert row["client_timestamp"] == happened.isoformat()
    assert row["sent"] == round(sent_at.timestamp() * 1e6)
    # All that a later correction by transit times needs is there.
    assert row["corrected"] == row["received"] - 600_000_000


def test_row_6_a_retry_that_is_dated_anew_is_stored_once(running_server):
    name = name_of(6)
    identity = str(uuid.uuid4())
    for offset in (1_000, 90_000_000):
        one = event(name, uuid=identity, offset=offset, token="phc_rows")
        assert send(running_server, [one]).status == 200
    assert len(rows(running_server, name)) == 1


def test_row_7_a_retry_is_stored_once_and_a_reused_uuid_is_no_retry(running_server):
    name, other = name_of(7), name_of(7)
    identity = str(uuid.uuid4())
    one = batch(event(name, uuid=identity), event(name, uuid=identity))
    assert [send(running_server, one).status for _ in range(2)] == [200, 200]
    # Old React Native builds gave one uuid to different events.
    assert send(running_server, batch(event(other, uuid=identity))).status == 200
    assert (len(rows(running_server, name)), len(rows(running_server, other))) == (1, 1)


BEACONS: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "gzip without a word": ("/e/", "text/plain", gzip.compress),
    "gzip, flagged": ("/e/?compression=gzip-js&beacon=1", "text/plain", gzip.compress),
    "JSON as text": ("/e/", "text/plain", bytes),
    "JSON": ("/i/v0/e/?beacon=1", "application/json", bytes),
    "a form": (
        "/e/?compression=base64",
        "application/x-www-form-urlencoded",
        lambda body: b"data=" + quote(base64.b64encode(body), safe="").encode(),
    ),
    "a form without a flag": (
        "/i/v0/e/",
        "application/x-www-form-urlencoded",
        lambda body: b"data=" + quote(base64.b64encode(body), safe="").encode(),
    ),
}


@pytest.mark.parametrize("beacon", BEACONS)
def test_row_8_every_beacon_of_a_page_that_is_left_is_read(running_server, beacon):
    target, content_type, code = BEACONS[beacon]
    name = name_of(8)
    response = running_server.request(
        "POST",
        target,
        body=code(json.dumps(batch(event(name))).encode()),
        headers=[("Content-Type", content_type), ("Origin", ORIGIN)],
    )
    assert response.status == (204 if "beacon=1" in target else 200)
    assert response.header("access-control-allow-origin") == ORIGIN
    assert len(rows(running_server, name)) == 1


def test_row_8_config_is_always_answered_so_that_compression_stays_on(running_server):
    config = running_server.request("GET", "/array/phc_rows/config", headers=[("Origin", ORIGIN)])
    assert "gzip-js" in config.json()["supportedCompression"]
    assert config.json()["autocapture_opt_out"] is False
    assert config.header("access-control-allow-origin") == ORIGIN


def test_row_9_a_truncated_gzip_body_is_refused_and_counted(running_server):
    line = 'penstock_engine_requests_refused_total{code="invalid_gzip"}'
    before = running_server.metric(line)
    whole = gzip.compress(json.dumps(batch(event("x"))).encode())
    for cut in (len(whole) - 1, len(whole) - 8, len(whole) // 2, 12):
        response = running_server.request("POST", "/e/", body=whole[:cut])
        assert response.status == 400
        assert response.body.startswith(b"failed to decode request: invalid GZIP data")
    assert running_server.metric(line) == before + 4


def test_row_9_whose_gzip_is_truncated_can_be_found_out(running_server):
    whole = gzip.compress(json.dumps(batch(event("row-9-secret"))).encode())
    agent = f"posthog-web/1.268 ({uuid.uuid4()})"
    sent = whole[: len(whole) // 2]
    headers = [("User-Agent", agent)]
    assert running_server.request("POST", "/e/", body=sent, headers=headers).status == 400
    page = running_server.get_admin("/refused").body.decode()
    (line,) = [line for line in page.splitlines() if agent in line]
    assert f"  400  /e  {len(sent)} bytes  " in line
    assert line.endswith("invalid GZIP data: the body is cut short or damaged")
    # On its own listener only, which need not be public.
    assert running_server.request("GET", "/refused").status == 404


@pytest.mark.parametrize("path", CAPTURE_ENDPOINTS)
def test_row_10_no_path_is_redirected_with_or_without_its_slash(running_server, path):
    for ending in ("", "/", "?", "/?", "?a=b"):
        response = send(running_server, batch(event("x")), f"/{path}{ending}")
        # Where another form of body is asked for, that is said by the path itself.
        assert response.status not in {*range(300, 400), 404, 405}
        assert response.header("location") is None


@pytest.mark.parametrize("path", ["/flags", "/decide", "/array/phc_rows/config", "/api/surveys"])
def test_row_10_nor_is_what_else_sdks_call(running_server, path):
    for ending in ("", "/", "/?v=2"):
        assert running_server.request("GET", path + ending).status == 200


def test_row_11_everything_is_found_under_a_prefix_that_blockers_do_not_know(start):
    server = start(prefix="/shop/relay")
    assert send(server, batch(event("x")), "/shop/relay/e/").status == 200
    for path in ("array/phc_rows/config", "array/phc_rows/config.js", "flags/?v=2"):
        assert server.request("GET", f"/shop/relay/{path}").status == 200


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/e/", json.dumps(batch(event("x"))).encode(), 200),
        ("POST", "/e/", b"{", 400),
        ("POST", "/e/", b'{"event":"x","distinct_id":"y"}', 401),
        ("POST", "/nowhere", b"", 404),
        ("PUT", "/e/", b"", 405),
        ("POST", "/e/", gzip.compress(b" " * (101 << 20)), 413),
        ("POST", "/flags/?v=2", b"{}", 200),
        ("GET", "/static/surveys.js", b"", 404),
    ],
)
def test_row_12_a_page_may_read_every_answer_whatever_headers_it_sends(
    running_server, method, target, body, status
):
    asked = "content-type, baggage, sentry-trace, traceparent, x-datadome"
    preflight = running_server.request(
        "OPTIONS",
        target,
        headers=[
            ("Origin", ORIGIN),
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", asked),
        ],
    )
    assert preflight.status in {200, 204}
    assert preflight.header("access-control-allow-headers") == asked
    answer = running_server.request(method, target, body=body, headers=[("Origin", ORIGIN)])
    assert answer.status == status
    for response in (preflight, answer):
        # Never `*`: clients that send credentials would not be let in.
        assert response.header("access-control-allow-origin") == ORIGIN
        assert response.header("access-control-allow-credentials") == "true"


def test_row_13_the_client_is_who_the_trusted_proxy_says(start):
    server = start(trusted_proxies=1)
    name = name_of(13)
    forged = [("X-Forwarded-For", "192.0.2.66, 198.51.100.7")]
    assert send(server, batch(event(name)), headers=forged).status == 200
    assert [row["ip"] for row in rows(server, name)] == ["198.51.100.7"]


def test_row_13_by_default_nobody_says_whose_address_it_is(running_server):
    name = name_of(13)
    forged = [("X-Forwarded-For", "192.0.2.66")]
    assert send(running_server, batch(event(name)), headers=forged).status == 200
    assert [row["ip"] for row in rows(running_server, name)] == ["127.0.0.1"]


def test_row_13_a_proxy_may_have_undone_gzip_and_left_the_header(running_server):
    gzipped = [("Content-Encoding", "gzip")]
    assert send(running_server, batch(event("x")), headers=gzipped).status == 200


def test_row_14_a_connection_is_kept_for_the_next_flush(running_server):
    body = json.dumps(batch(event("x"))).encode()
    headers = [("Host", "x"), ("Content-Length", str(len(body)))]
    with (
        socket.create_connection(running_server.http, timeout=30) as connection,
        connection.makefile("rb") as stream,
    ):
        for target in ("/batch/", "/nowhere", "/batch/", "/array/phc_rows/config", "/batch/"):
            connection.sendall(request_bytes("POST", target, headers, body))
            response = read_response(stream)
            assert (response.header("connection") or "").lower() != "close"
        assert (response.status, response.body) == OK


@pytest.mark.parametrize("years", [1, 10, 50])
def test_row_15_an_event_of_a_phone_long_offline_keeps_its_time(running_server, years):
    name = name_of(15)
    happened = datetime.now(UTC).replace(microsecond=0) - timedelta(days=365 * years)
    body = batch(event(name, timestamp=happened.isoformat()), sent_at=datetime.now(UTC).isoformat())
    assert send(running_server, body).status == 200
    (row,) = rows(running_server, name, "epoch(timestamp) AS at, CAST(date AS text) AS day")
    assert abs(row["at"] - happened.timestamp()) < 60
    assert row["day"] in {str(happened.date()), str((happened + timedelta(minutes=1)).date())}


def test_row_16_413_is_said_only_when_size_is_the_reason(running_server):
    large = "x" * (1 << 20)
    assert send(running_server, batch(event("x", uuid="bad", more=large))).status == 400
    assert send(running_server, batch(event("x"), more=large)).status == 200
    assert running_server.request("POST", "/e/", body=b"{" + large.encode()).status == 400


@pytest.mark.parametrize("sign", ["a", "é", "😀"])
def test_row_17_a_distinct_id_is_cut_at_200_characters_and_it_is_said(running_server, sign):
    name = name_of(17)
    sent = [event(name, distinct_id=sign * length) for length in (200, 201)]
    assert send(running_server, batch(*sent)).status == 200
    found = rows(running_server, name, "distinct_id, warnings, batch_index")
    assert [row["distinct_id"] for row in found] == [sign * 200] * 2
    told = ["distinct_id_truncated", "distinct_id_length:201"]
    assert [row["warnings"] for row in found] == [None, told]


def test_row_17_how_long_the_whole_id_was_tells_a_blob_from_an_id(running_server):
    name = name_of(17)
    blob = {"user": "é" * 5000, "a": [1, 2]}
    text = json.dumps(blob, separators=(",", ":"), ensure_ascii=False)
    sent = [event(name, distinct_id=blob), event(name, distinct_id=text)]
    body = json.dumps(batch(*sent), indent=2, ensure_ascii=False).encode()
    assert running_server.request("POST", "/batch/", body=body).status == 200
    for row in rows(running_server, name, "distinct_id, warnings, batch_index"):
        assert row["distinct_id"] == text[:200]
        assert row["warnings"] == ["distinct_id_truncated", f"distinct_id_length:{len(text)}"]


def test_row_18_lone_surrogates_cost_neither_the_event_nor_its_batch(running_server):
    name = name_of(18)
    text = json.dumps(batch(event(name), event(name))).replace('"n": 1', '"n": "a\\ud83db"', 1)
    assert "\\ud83d" in text
    assert running_server.request("POST", "/batch/", body=text.encode()).status == 200
    found = [json.loads(row["properties"]) for row in rows(running_server, name)]
    assert found == [{"n": "a\ufffdb"}, {"n": 1}]


def test_row_19_a_large_snapshot_of_a_page_is_stored_whole(running_server):
    # Five times what a message of Kafka may have.
    identity = str(uuid.uuid4())
    page = "x" * (5 << 20)
    snapshot = {
        "event": "$snapshot",
        "uuid": identity,
        "distinct_id": "ada",
        "properties": {
            "token": "phc_rows",
            "$session_id": "session-19",
            "$snapshot_data": [{"type": 2, "data": page}],
        },
    }
    assert send(running_server, [snapshot], "/s/").status == 200
    (row,) = running_server.query(f"SELECT properties FROM recordings WHERE uuid = '{identity}'")
    assert json.loads(row["properties"])["$snapshot_data"] == [{"type": 2, "data": page}]


def test_row_20_it_needs_nothing_beside_it_and_gives_disk_space_back(start):
    server = start(flush_interval_seconds=0.05, wal_file_bytes="1MiB", dedup_window_seconds=0)
    text = "x" * 10_000
    # Forty files of the log, of which sixteen are kept to be written again.
    for _ in range(200):
        body = batch(*(event("x", properties={"text": text}) for _ in range(20)))
        assert send(server, body).status == 200
    assert server.stop() == 0
    check_log_was_let_go(server.data_dir, 4 << 20)
    assert server.query("SELECT count(*) AS n FROM events") == [{"n": 4000}]


def test_row_21_columns_have_one_order_and_one_type_in_every_file(start):
    server = start(flush_interval_seconds=0.05, ack="table")
    sent: list[dict[str, object]] = [{"a": 1}, {"b": {"c": []}}, {}]
    for properties in sent:
        assert send(server, batch(event("x", properties=properties))).status == 200
    assert server.stop() == 0
    files = list((server.data_dir / "events").rglob("*.parquet"))
    assert len(files) == 3
    sql = "SELECT name, type, converted_type FROM parquet_schema($1) WHERE type IS NOT NULL"
    (columns,) = {tuple(duckdb.execute(sql, [str(path)]).fetchall()) for path in files}
    declared = [field["name"] for field in json.loads(_core.arrow_schema_json("events"))["fields"]]
    names = [name for name, _, _ in columns if name in declared]
    assert names == [name for name in declared if name in names]
    assert len({path.name for path in files}) == len(files)


def test_row_22_an_import_is_told_apart_and_keeps_both_times(running_server):
    name = name_of(22)
    body = batch(event(name, timestamp="2020-02-29T12:00:00Z"), historical_migration=True)
    assert send(running_server, body).status == 200
    (row,) = rows(
        running_server,
        name,
        "historical, CAST(date AS text) AS day, received_at > timestamp AS later, batch_index",
    )
    assert (row["historical"], row["day"], row["later"]) == (True, "2020-02-29", True)


def test_row_23_the_order_of_arrival_is_kept_within_and_across_batches(running_server):
    name = name_of(23)
    # The later batch is of earlier times, as after a time without network.
    for place, time in ((0, "2026-01-02T00:00:00Z"), (2, "2026-01-01T00:00:00Z")):
        pair = [event(name, timestamp=time, properties={"place": place + n}) for n in range(2)]
        assert send(running_server, batch(*pair)).status == 200
    found = running_server.query(
        "SELECT properties, lane FROM events "
        f"WHERE event = '{name}' ORDER BY log_position, batch_index"
    )
    assert [json.loads(row["properties"])["place"] for row in found] == [0, 1, 2, 3]
    assert len({row["lane"] for row in found}) == 1


@pytest.mark.parametrize("signal", ["logs", "metrics", "traces"])
def test_row_24_telemetry_is_never_answered_so_that_its_client_sends_it_for_ever(
    running_server, signal
):
    for path in (f"/v1/{signal}", f"/i/v1/{signal}?token=phc_rows"):
        response = running_server.request("POST", path, body=b"x" * 100_000)
        assert (response.status, response.body) == (200, b"{}")
