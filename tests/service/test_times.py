"""Four times of each event: what the client said, when it sent, when that came, and the outcome."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

pytestmark = pytest.mark.service

TOKEN = "phc_times"
NOW = datetime.now(UTC).replace(microsecond=250_000)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


def iso(moment: datetime) -> str:
    return moment.isoformat()


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


SECOND = NOW.replace(microsecond=0)
# A batch's `sent_at`, an event's own fields, and the query's time of sending; then which time they
# make: the receipt's (None) or the one given, moved by the clock's error where one is known.
CASES: dict[str, tuple[str | None, dict[str, object], datetime | None, datetime | None]] = {
    "nothing": (None, {}, None, None),
    "timestamp": (None, {"timestamp": iso(NOW - HOUR)}, None, NOW - HOUR),
    "corrected": (iso(NOW - 9 * HOUR), {"timestamp": iso(NOW - 10 * HOUR)}, None, NOW - 10 * HOUR),
    "corrected_by_query": (
        None,
        {"timestamp": iso(NOW + 2 * HOUR)},
        NOW + 3 * HOUR,
        NOW + 2 * HOUR,
    ),
    "body_wins": (iso(NOW), {"timestamp": iso(NOW - HOUR)}, NOW + 9 * HOUR, NOW - HOUR),
    "unreadable_sent_at": ("soon", {"timestamp": iso(NOW - HOUR)}, NOW + HOUR, NOW - HOUR),
    "not_corrected": (
        iso(NOW - 9 * HOUR),
        {"timestamp": iso(NOW - HOUR), "properties": {"$ignore_sent_at": True}},
        None,
        NOW - HOUR,
    ),
    "future": (None, {"timestamp": iso(NOW + 30 * HOUR)}, None, None),
    "unreadable": (None, {"timestamp": "yesterday"}, None, None),
    "short_offset": (None, {"timestamp": f"{SECOND:%Y-%m-%dT%H:%M:%S}+00"}, None, SECOND),
    "no_zone": (None, {"timestamp": f"{SECOND:%Y-%m-%d %H:%M:%S}"}, None, SECOND),
    "rfc_2822": (None, {"timestamp": f"{SECOND:%a, %d %b %Y %H:%M:%S} +0000"}, None, SECOND),
    "slashes": (None, {"timestamp": f"{SECOND:%Y/%m/%d %H:%M:%S}"}, None, SECOND),
    "seconds": (None, {"timestamp": str(ms(SECOND) // 1000)}, None, SECOND),
    "milliseconds": (None, {"timestamp": str(ms(NOW))}, None, NOW),
    "number": (None, {"timestamp": ms(NOW)}, None, NOW),
    "old": (None, {"timestamp": "0001-01-01T00:00:00Z"}, None, datetime(1, 1, 1, tzinfo=UTC)),
    "too_old": (
        None,
        {"timestamp": "0000-12-31T00:00:00Z"},
        None,
        datetime(1970, 1, 1, tzinfo=UTC),
    ),
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else EPOCH + microseconds * MICROSECOND


def test_all_times_of_an_event_are_in_its_row(running_server):
    for name, (sent_at, fields, query, _) in CASES.items():
        event = {"event": name, "distinct_id": "d", "uuid": str(uuid.uuid4())} | fields
        body: dict[str, object] = {"api_key": TOKEN, "batch": [event]}
        if sent_at is not None:
            body["sent_at"] = sent_at
        target = "/batch" if query is None else f"/batch?_={ms(query)}"
        assert running_server.post_json(target, body).status == 200
    rows = running_server.query(
        "SELECT event, client_timestamp AS said, epoch_us(sent_at) AS sent, "
        "epoch_us(received_at) AS received, epoch_us(timestamp) AS happened, date, "
        f"warnings FROM events WHERE token = '{TOKEN}'"
    )
    by_name = {row["event"]: row for row in rows}
    assert by_name.keys() == CASES.keys()
    for name, (sent_at, fields, query, expected) in CASES.items():
        row = by_name[name]
        said = fields.get("timestamp")
        assert row["said"] == (None if said is None else str(said)), name
        received, happened = moment(row["received"]), moment(row["happened"])
        assert received is not None
        assert happened is not None
        assert timedelta() <= received - NOW < HOUR, name
        sent = query and EPOCH + timedelta(milliseconds=ms(query))
        if sent_at not in {None, "soon"}:
            sent = datetime.fromisoformat(sent_at)
        assert moment(row["sent"]) == sent, name
        if expected is None:
            assert happened == received, name
        elif sent is not None and name != "not_corrected":
            assert happened == expected - (sent - received), name
        else:
            assert happened == expected, name
        assert str(row["date"])[:10] == f"{happened:%Y-%m-%d}".rjust(10, "0"), name
    warned = {name: row["warnings"] for name, row in by_name.items() if row["warnings"]}
    assert warned == {
        "future": ["timestamp_in_future"],
        "unreadable": ["invalid_timestamp"],
        "too_old": ["timestamp_out_of_range"],
    }


def test_a_repeat_that_counts_from_its_receipt_is_stored_once(running_server):
    event = {"event": "offset", "distinct_id": "d", "uuid": str(uuid.uuid4()), "offset": 3_600_000}
    body = json.dumps([event | {"token": "phc_offset"}]).encode()
    for _ in range(2):
        assert running_server.request("POST", "/e/", body=body).status == 200
    (row,) = running_server.query(
        "SELECT epoch_us(received_at) - epoch_us(timestamp) AS ago FROM events "
        "WHERE token = 'phc_offset'"
    )
    assert row["ago"] == 3_600_000_000
