"""A record as a request that means the same."""

import gzip
import json
from typing import Any

import pytest

from penstock.tools.http_form import http_form, with_members
from support.log_records import RECEIVED_AT_US, FakeRecord

HOUR_US = 3_600_000_000
NOW_US = RECEIVED_AT_US + HOUR_US
EVENT = {"event": "e", "distinct_id": "d"}


def dumped(value):
    return json.dumps(value).encode()


def test_a_plain_record_goes_as_it_came():
    form = http_form(FakeRecord(endpoint="i/v0/e", body=b" {} "), NOW_US)
    assert (form.target, form.body) == ("i/v0/e", b" {} ")
    assert form.headers == {"Content-Type": "application/json"}


def test_coding_and_address_go_as_headers():
    record = FakeRecord(body=b"\x1f\x8b", coding="gzip", client_address="203.0.113.9")
    form = http_form(record, NOW_US)
    assert form.body == b"\x1f\x8b"
    assert form.headers["Content-Encoding"] == "gzip"
    assert form.headers["X-Forwarded-For"] == "203.0.113.9"


def test_a_clock_of_the_body_is_put_forward_by_the_age_of_the_record():
    # Else every timestamp would be later by as much as the record is old.
    body = dumped({"batch": [EVENT], "sent_at": "2025-12-31T23:59:50Z"})
    record = FakeRecord(body=body, sent_at_us=RECEIVED_AT_US - 10_000_000)
    form = http_form(record, NOW_US)
    sent = json.loads(form.body)
    assert sent == {"batch": [EVENT], "sent_at": "2026-01-01T00:59:50.000000+00:00"}
    assert form.target == "batch"


@pytest.mark.parametrize("body", [dumped([EVENT]), dumped(EVENT)])
def test_a_clock_of_the_query_is_put_forward_in_the_query(body):
    record = FakeRecord(endpoint="e", body=body, sent_at_us=RECEIVED_AT_US)
    form = http_form(record, NOW_US)
    assert (form.target, form.body) == (f"e?sent_at={NOW_US // 1000}", body)


@pytest.mark.parametrize("body", [dumped([EVENT]), dumped(EVENT)])
def test_the_clock_of_an_upload_of_snapshots_goes_where_it_wins_over_theirs(body):
    record = FakeRecord(endpoint="s", body=body, sent_at_us=RECEIVED_AT_US)
    form = http_form(record, NOW_US)
    assert form.target == "s"
    sent = {"batch": [EVENT], "sent_at": "2026-01-01T01:00:00.000000+00:00"}
    assert json.loads(form.body) == sent
    told_nothing = FakeRecord(endpoint="s", body=body)
    assert http_form(told_nothing, NOW_US).body == body


def test_the_library_of_an_upload_of_snapshots_goes_as_its_header():
    record = FakeRecord(endpoint="s", body=dumped(EVENT), sdk_info="posthog-ios/3")
    assert http_form(record, NOW_US).headers["User-Agent"] == "posthog-ios/3"


@pytest.mark.parametrize("endpoint", ["batch", "s"])
def test_a_clock_outside_of_any_calendar_is_left_out(endpoint):
    record = FakeRecord(endpoint=endpoint, body=dumped([EVENT]), sent_at_us=1 << 62)
    form = http_form(record, NOW_US)
    assert (form.target, form.body) == (endpoint, dumped([EVENT]))


def test_a_compressed_body_that_is_changed_is_compressed_again():
    text = dumped({"batch": [EVENT]})
    record = FakeRecord(body=b"zstd", decoded=text, coding="zstd", sent_at_us=RECEIVED_AT_US)
    form = http_form(record, NOW_US)
    assert form.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(form.body))["batch"] == [EVENT]


@pytest.mark.parametrize(
    "body",
    [
        dumped([EVENT]),
        dumped(EVENT),
        dumped({"batch": [EVENT]}),
        b"\xef\xbb\xbf " + dumped([EVENT]) + b"\n",
    ],
)
def test_a_token_beside_the_body_is_put_into_it(body):
    grpc = "penstock.v1.IngestService/Append"
    form = http_form(FakeRecord(endpoint=grpc, body=body, request_token="phc_a"), NOW_US)
    assert form.target == "batch"
    assert json.loads(form.body) == {"batch": [EVENT], "api_key": "phc_a"}


@pytest.mark.parametrize("endpoint", ["i/v0/ai", "i/v0/ai/otel"])
def test_forms_and_spans_go_as_they_came(endpoint):
    record = FakeRecord(
        endpoint=endpoint,
        body=b"\x1f\x8bform",
        decoded=b"[{}]",
        coding="gzip",
        content_type='multipart/form-data; boundary="x"',
        request_token="phc_a",
        client_address="203.0.113.9",
        sent_at_us=RECEIVED_AT_US,
    )
    form = http_form(record, NOW_US)
    assert (form.target, form.body) == (f"{endpoint}?sent_at={NOW_US // 1000}", b"\x1f\x8bform")
    assert form.headers == {
        "Content-Type": 'multipart/form-data; boundary="x"',
        "Content-Encoding": "gzip",
        "Authorization": "Bearer phc_a",
        "X-Forwarded-For": "203.0.113.9",
    }
    assert http_form(FakeRecord(endpoint=endpoint, body=b"x"), NOW_US).target == endpoint


def test_a_single_event_keeps_its_import_flag():
    text = dumped(EVENT | {"historical_migration": True})
    sent = json.loads(with_members(text, "phc_a", None) or b"")
    assert sent["historical_migration"] is True
    assert sent["batch"] == [EVENT | {"historical_migration": True}]


def test_text_of_events_is_not_written_anew():
    event = b'{"event":"e","properties":{"n":1.50,"s":"\\ud800","big":' + b"9" * 5000 + b"}}"
    changed = with_members(b'{"batch":[' + event + b"]}", "t", None)
    assert changed == b'{"batch":[' + event + b'],"api_key": "t"}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800":1,"b\\u0061tch":[1]}',
        b'{"batch":1,"n":{"batch":{}},"batch" : [1]}',
        b'{"x":"\\"}]\\\\","batch":[1]}',
        b'{"x":' + b"[" * 127 + b"]" * 127 + b',"batch":[1]}',
        b'{"x":"' + b"y" * 1_000_000 + b'","batch":[1]}',
    ],
)
def test_a_batch_is_found_however_it_is_written(body):
    assert with_members(body, "t", None) == body[:-1] + b',"api_key": "t"}'


@pytest.mark.parametrize("body", [b'{"batch":{}}', b'{"x":{"batch":[1]}}', b'{"x":"batch"}'])
def test_what_is_no_batch_is_one_event(body):
    assert with_members(body, "t", None) == b'{"batch":[' + body + b'],"api_key": "t"}'


def v1_record(**more):
    fixed: dict[str, Any] = {
        "endpoint": "i/v1/analytics/events",
        "body": b" {} ",
        "request_token": "phc_a",
        "sent_at_us": RECEIVED_AT_US - 10_000_000,
        "sdk_info": "posthog-go/1.23.1",
    }
    return FakeRecord(**(fixed | more))


def test_a_record_of_capture_v1_goes_as_it_came_with_its_headers():
    form = http_form(v1_record(), NOW_US)
    assert (form.target, form.body) == ("i/v1/analytics/events", b" {} ")
    request_id = form.headers.pop("PostHog-Request-Id")
    assert form.headers == {
        "Content-Type": "application/json",
        "Authorization": "Bearer phc_a",
        "User-Agent": "penstock-wal-replay",
        "PostHog-Sdk-Info": "posthog-go/1.23.1",
        "PostHog-Attempt": "1",
        # Put forward by the age of the record.
        "PostHog-Request-Timestamp": "2026-01-01T00:59:50.000000+00:00",
    }
    again = http_form(v1_record(), NOW_US + 1)
    assert again.headers["PostHog-Request-Id"] == request_id
    other = http_form(v1_record(position=13), NOW_US)
    assert other.headers["PostHog-Request-Id"] != request_id


def test_codings_of_capture_v1_go_as_headers_or_are_undone():
    form = http_form(v1_record(coding="br", body=b"x"), NOW_US)
    assert (form.body, form.headers["Content-Encoding"]) == (b"x", "br")
    form = http_form(v1_record(coding="base64", body=b"e30=", decoded=b"{}"), NOW_US)
    assert (gzip.decompress(form.body), form.headers["Content-Encoding"]) == (b"{}", "gzip")


def test_what_a_client_of_capture_v1_did_not_say_is_not_made_up():
    form = http_form(v1_record(sdk_info=None), NOW_US)
    # Without a slash nothing is written into events.
    assert "/" not in form.headers["PostHog-Sdk-Info"]


@pytest.mark.parametrize(("clock", "year"), [(1 << 62, "9999"), (-(1 << 62), "0001")])
def test_a_clock_outside_of_any_calendar_is_as_far_off_as_can_be_said(clock, year):
    form = http_form(v1_record(sent_at_us=clock), NOW_US)
    assert form.headers["PostHog-Request-Timestamp"].startswith(year)
