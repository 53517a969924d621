"""How refused events are named, chosen, and made ready to be sent again."""

import email
import json
from datetime import UTC, datetime, timedelta
from email.policy import HTTP

import duckdb
import pytest

from penstock.tools.rejected import EventId, RefusedEvent, Selection, read_id, read_since
from penstock.tools.rejected_form import Repair, http_form_of
from penstock.tools.sending import SendError

LANE = "0123456789abcdef" * 2
RECEIVED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


def refused(raw='{"event":"e","properties":{"n":1}}', **changes):
    fields = {
        "lane": LANE,
        "log_position": 48,
        "batch_index": 3,
        "received_at": RECEIVED,
        "project": "website",
        "token": "phc_website",
        "endpoint": "batch",
        "reason": "missing_distinct_id",
        "detail": "event submitted without a distinct_id",
        "event": "e",
        "distinct_id": None,
        "uuid": None,
        "raw": raw,
    }
    return RefusedEvent(**fields | changes)


def form_of(event, repair=None):
    return http_form_of(event, repair or Repair(), NOW_US)


def sent(event, repair=None):
    """The body and the one event of a request; the last of a member's values counts."""
    form = form_of(event, repair)
    body = json.loads(form.body)
    (item,) = body["batch"]
    return body, item


def test_ids_are_read_as_they_are_shown():
    assert read_id("48.3") == EventId("", 48, 3)
    assert read_id(f"{LANE}.48.3") == EventId(LANE, 48, 3)
    assert str(read_id(f"{LANE}.48.3")) == f"{LANE}.48.3"


@pytest.mark.parametrize(
    "text", ["", "48", "48.", ".3", "4-8.3", "48.3.1", "x.48.3", f"{1 << 63}.0"]
)
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match="no id of a refused event"):
        read_id(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", NOW),
        ("2026-01-31T13:00:00+01:00", NOW),
        ("2026-01-31T12:00:00", NOW),
        ("2026-01-31", NOW - timedelta(hours=12)),
        ("90m", NOW - timedelta(minutes=90)),
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
    ],
)
def test_times_are_read_as_instants_days_and_ages(text, moment):
    assert read_since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "24", "999999d", "2026-13-01"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is no time"):
        read_since(text, NOW)


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), [1, 2, 3, 4]),
        (Selection(project="a'b"), [2]),
        (Selection(project="' OR true --"), []),
        (Selection(reason="empty_event_name"), [3]),
        (Selection(since=datetime(2026, 1, 2, 0, 0, 1, tzinfo=UTC)), [3, 4]),
        (Selection(ids=(EventId("", 1, 0),)), [1, 4]),
        (Selection(ids=(EventId("b" * 32, 1, 0), EventId("", 2, 5))), [2, 4]),
        (Selection(ids=(EventId("", 1, 0),), reason="missing_distinct_id"), [1]),
    ],
)
def test_selection_finds_by_sql(selection, found):
    rows = [
        (1, "a" * 32, 1, 0, "p", "missing_distinct_id", "2026-01-01 10:00:00+00"),
        (2, "a" * 32, 2, 5, "a'b", "missing_distinct_id", "2026-01-02 00:00:00+00"),
        (3, "a" * 32, 3, 0, "p", "empty_event_name", "2026-01-02 00:00:01+00"),
        (4, "b" * 32, 1, 0, "p", "invalid_uuid", "2026-01-03 00:00:00+00"),
    ]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE rejected (n INT, lane TEXT, log_position BIGINT, batch_index INT,"
            " project TEXT, reason TEXT, received_at TIMESTAMPTZ, date DATE)"
        )
        connection.executemany(
            "INSERT INTO rejected SELECT *, received_at::TIMESTAMPTZ::DATE FROM"
            " (VALUES (?, ?, ?, ?, ?, ?, ?)) AS row(n, l, p, i, j, r, received_at)",
            rows,
        )
        answer = connection.execute(f"SELECT n FROM rejected WHERE {selection.sql()} ORDER BY n")
        assert [n for (n,) in answer.fetchall()] == found


def test_event_without_id_and_time_gets_those_of_its_receipt():
    body, item = sent(refused())
    assert body["api_key"] == "phc_website"
    assert item["timestamp"] == "2026-01-02T03:04:05.678901+00:00"
    assert item["properties"] == {"n": 1}
    again = sent(refused('{"other":"text"}'), Repair(members={"distinct_id": '"ada"'}))[1]
    assert again["uuid"] == item["uuid"]
    assert again["distinct_id"] == "ada"
    elsewhere = sent(refused(batch_index=4))[1]
    assert elsewhere["uuid"] != item["uuid"]


def test_id_and_time_of_its_own_are_kept():
    own = {"uuid": "0192f0c1-2345-7abc-8def-0123456789ab", "timestamp": "2025-01-01"}
    raw = json.dumps(own)
    first = f'[{{"penstock_retry_of":"{LANE}.48.3",{raw[1:]}]}}'
    assert form_of(refused(raw)).body.endswith(first.encode())


def test_event_that_is_refused_again_keeps_the_id_of_its_first_place():
    once = sent(refused('{"uuid":"wrong"}'))[1]
    copy = refused(json.dumps(once), log_position=77, batch_index=0)
    edited = Repair(text=b'{"event":"mended"}', new_uuid=True)
    for event, repair in ((copy, Repair(new_uuid=True)), (copy, edited), (refused(), edited)):
        assert sent(event, repair)[1]["uuid"] == sent(refused())[1]["uuid"]
    cut = refused(json.dumps(once)[:70], log_position=77)
    assert sent(cut, edited)[1]["uuid"] == sent(refused())[1]["uuid"]


@pytest.mark.parametrize("nothing", ["null", '""'])
def test_empty_members_count_as_absent(nothing):
    item = sent(refused(f'{{"uuid":{nothing},"timestamp" : {nothing}}}'))[1]
    assert item["uuid"]
    assert item["timestamp"].startswith("2026-01-02T03:04:05")


def test_members_of_the_properties_are_not_those_of_the_event():
    item = sent(refused('{"properties":{"uuid":"x","timestamp":"y","offset":5}}'))[1]
    assert item["uuid"]
    assert item["timestamp"].startswith("2026-01-02T03:04:05")
    assert "offset" not in item


@pytest.mark.parametrize(
    ("offset", "time"),
    [
        ("1500", "2026-01-02T03:04:04.178901+00:00"),
        ("-2.5e3", "2026-01-02T03:04:08.178901+00:00"),
        ("1e400", "2026-01-02T03:04:05.678901+00:00"),
    ],
)
def test_offset_counts_from_the_first_receipt(offset, time):
    item = sent(refused(f'{{"offset":{offset}}}'))[1]
    assert item["timestamp"] == time


def test_wrong_id_is_replaced_only_if_asked():
    raw = '{"uuid":"wrong"}'
    assert sent(refused(raw))[1]["uuid"] == "wrong"
    replaced = sent(refused(raw), Repair(new_uuid=True))[1]["uuid"]
    assert replaced == sent(refused())[1]["uuid"]


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("e", "batch"),
        ("penstock.v1.IngestService/Append", "batch"),
        ("engage", "engage"),
        ("s", "s"),
        ("i/v0/ai/batch", "i/v0/ai/batch"),
        # A span is no event; what was made of it is.
        ("i/v0/ai/otel", "i/v0/ai/batch"),
        ("i/v0/ai", "i/v0/ai"),
        ("i/v1/analytics/events", "i/v1/analytics/events"),
        ("i/v1/ai/events", "i/v1/ai/events"),
    ],
)
def test_event_goes_by_the_kind_of_route_that_refused_it(endpoint, target):
    assert form_of(refused(endpoint=endpoint)).target == target


V1_RAW = '{"event":"","options":{"process_person_profile":false},"session_id":"s","offset":5}'


def test_event_of_capture_v1_goes_with_its_options_and_headers():
    form = form_of(refused(V1_RAW, endpoint="i/v1/analytics/events"))
    body = json.loads(form.body)
    assert set(body) == {"created_at", "batch"}
    (item,) = body["batch"]
    assert item["options"] == {"process_person_profile": False}
    assert item["session_id"] == "s"
    # There it means nothing, and so moves no time.
    assert item["timestamp"] == "2026-01-02T03:04:05.678901+00:00"
    request_id = form.headers.pop("PostHog-Request-Id")
    assert form.headers == {
        "Content-Type": "application/json",
        "Authorization": "Bearer phc_website",
        "User-Agent": "penstock-rejected-retry",
        # Without a slash, so that it is written into no event.
        "PostHog-Sdk-Info": "penstock-rejected-retry",
        "PostHog-Attempt": "1",
        "PostHog-Request-Timestamp": "2026-01-31T12:00:00.000000+00:00",
    }
    other = form_of(refused(V1_RAW, endpoint="i/v1/analytics/events", batch_index=4))
    assert other.headers["PostHog-Request-Id"] != request_id


def parts_of(event, repair=None):
    """The parts of a form by name, read by the standard library's reader of messages."""
    form = form_of(event, repair)
    head = "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
    message = email.message_from_bytes(head.encode() + b"\r\n" + form.body, policy=HTTP)
    return {
        part.get_param("name", header="content-disposition"): json.loads(part.get_content())
        for part in message.iter_parts()
    }


def test_event_of_a_form_goes_as_a_form():
    raw = '{"event":"$ai_span","properties":{"a":{"b":"}"},"c":"x"}}'
    form = form_of(refused(raw, endpoint="i/v0/ai"), Repair(token="phc_b"))
    assert form.headers["Authorization"] == "Bearer phc_b"
    parts = parts_of(refused(raw, endpoint="i/v0/ai"))
    assert list(parts) == ["event", "event.properties"]
    assert parts["event.properties"] == {"a": {"b": "}"}, "c": "x"}
    assert parts["event"]["event"] == "$ai_span"
    # A form refuses properties in two places.
    assert parts["event"]["properties"] is None


@pytest.mark.parametrize("own", ["5", '{"large":"own"}', "null"])
def test_properties_that_are_set_replace_those_of_a_form(own):
    event = refused(f'{{"properties":{own}}}', endpoint="i/v0/ai")
    parts = parts_of(event, Repair(members={"properties": '{"n":1}'}))
    assert parts["event.properties"] == {"n": 1}
    assert parts["event"]["properties"] is None
    assert "large" not in json.dumps(parts)


def test_form_without_properties_has_one_part():
    assert list(parts_of(refused('{"event":"e"}', endpoint="i/v0/ai"))) == ["event"]


@pytest.mark.parametrize("endpoint", ["i/v0/ai", "i/v1/analytics/events"])
@pytest.mark.parametrize("token", ["a\r\nHost: b", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_token_that_cannot_stand_in_a_header_is_told(endpoint, token):
    with pytest.raises(SendError, match="can't stand in a header"):
        form_of(refused(endpoint=endpoint), Repair(token=token))


def test_text_and_token_given_by_the_user_are_sent_instead():
    body, item = sent(refused(), Repair(text=b' {"event":"mended"}\n', token='t"'))
    assert body["api_key"] == 't"'
    assert item["event"] == "mended"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ('{"event":"e","properties":{"text":"xxxx', "cut when it was kept"),
        ("5", "no JSON object"),
        ("", "no JSON object"),
        ('{"\\x":1}', "no JSON"),
    ],
)
def test_text_that_cannot_be_sent_is_told(raw, why):
    with pytest.raises(SendError, match=why) as caught:
        form_of(refused(raw))
    assert caught.value.of_record


def test_text_of_any_depth_is_read():
    deep = '{"properties":' * 5000 + "{}" + "}" * 5000
    assert deep[1:-1].encode() in form_of(refused(deep)).body
