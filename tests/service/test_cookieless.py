"""Cookieless mode against a real server: who is whom for a day, and what nobody can find."""

import gzip
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from support.command import run_penstock

pytestmark = pytest.mark.service

SENTINEL = "$posthog_cookieless"
AGENT = "Mozilla/5.0 (a browser of its own)"
EXTRA = "a word beside it"
ADA = "203.0.113.199"
BOB = "198.51.100.77"
SELECT = "SELECT * FROM events ORDER BY log_position, batch_index"
HOUR = timedelta(hours=1)
# A day that is open for longer than any test takes, whenever that begins.
TODAY = datetime.now(UTC).replace(hour=12)


def forwarded(address):
    return [("X-Forwarded-For", address)]


def visit(name="$pageview", *, at=None, root=None, **properties):
    """Make an event as posthog-js sends it in cookieless mode."""
    said = {
        "distinct_id": SENTINEL,
        "$device_id": None,
        "$cookieless_mode": True,
        "$raw_user_agent": AGENT,
        "$host": "www.example.com",
        "$timezone": "Europe/Berlin",
        "token": "phc_site",
    }
    event = {"event": name, "uuid": str(uuid.uuid4()), "properties": said | properties}
    event["timestamp"] = (at or TODAY).isoformat()
    return event | (root or {})


def send(server, *events, address=ADA, path="/e/"):
    """POST events as posthog-js does: gzip, and nothing that says so."""
    body = gzip.compress(json.dumps({"api_key": "phc_site", "batch": events}).encode())
    return server.request("POST", path, body=body, headers=forwarded(address))


def stored(server):
    return [row | {"properties": json.loads(row["properties"])} for row in server.query(SELECT)]


def files_with(folder, *texts):
    needles = [text.encode() for text in texts]
    needles += [bytes(map(int, text.split("."))) for text in texts if text.count(".") == 3]
    return [
        (path.name, needle)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for needle in needles
        if needle in path.read_bytes()
    ]


def penstock(*command):
    """Run a command; its output."""
    done = run_penstock(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def server(start):
    return start(trusted_proxies=1, flush_interval_seconds=3600)


def test_a_visitor_is_one_for_the_day_and_told_apart_from_others(server):
    assert send(server, visit(), visit("click")).status == 200
    assert send(server, visit(), address=BOB).status == 200
    others = [
        visit(at=TODAY - 24 * HOUR),
        visit(**{"$host": "example.org"}),
        visit(**{"$raw_user_agent": "another"}),
        visit(**{"$cookieless_extra": EXTRA}),
    ]
    assert send(server, *others).status == 200
    rows = stored(server)
    first, again, *different = [row["distinct_id"] for row in rows]
    assert first == again
    assert len({first, *different}) == 6
    assert all(row["distinct_id"].startswith("cookieless_") for row in rows)
    # One session a day, and a device beside it.
    assert len({row["session_id"] for row in rows[:2]}) == 1
    assert len({row["session_id"] for row in rows}) == 6
    for row in rows:
        properties = row["properties"]
        assert properties["$session_id"] == row["session_id"]
        assert properties["distinct_id"] == row["distinct_id"]
        assert properties["$device_id"] == row["distinct_id"].replace("less_", "lessd_")
        assert properties["$cookieless_mode"] is True


def test_what_a_visitor_is_told_by_is_found_nowhere_also_after_a_crash(server, start):
    personal = {"$ip": BOB, "$cookieless_extra": EXTRA, "$set": {"$raw_user_agent": AGENT}}
    root = {"$set_once": {"$initial_raw_user_agent": AGENT}}
    unsupported = visit("$create_alias", **personal)
    assert send(server, visit(root=root, **personal), unsupported).status == 200
    refused = send(server, visit(**personal, **{"$host": None}))
    assert refused.status == 400
    assert refused.body == (
        b"event of cookieless mode submitted without $host: event 0: cookieless_missing_host"
    )
    server.kill()
    assert files_with(server.data_dir, ADA, BOB, AGENT, EXTRA) == []

    server = start(trusted_proxies=1, flush_interval_seconds=3600)
    (row,) = stored(server)
    assert row["ip"] is None
    assert row["properties"]["$set"] == {}
    rejected = server.query("SELECT reason, raw FROM rejected ORDER BY reason")
    assert [row["reason"] for row in rejected] == [
        "cookieless_missing_host",
        "cookieless_unsupported_event",
    ]
    assert server.stop() == 0
    assert files_with(server.data_dir, ADA, BOB, AGENT, EXTRA) == []


def test_a_restart_changes_nobody_and_a_retry_from_elsewhere_is_known(server, start):
    first = visit()
    assert send(server, first).status == 200
    server.kill()
    server = start(trusted_proxies=1, flush_interval_seconds=3600)
    assert send(server, visit("later")).status == 200
    # The phone has left the house.
    assert send(server, first, address=BOB).status == 200
    rows = stored(server)
    assert [row["event"] for row in rows] == ["$pageview", "later"]
    assert len({row["distinct_id"] for row in rows}) == 1
    # What the table gets is what the log had.
    assert server.stop() == 0
    assert stored(server) == rows


def test_salts_are_secret_files(server):
    assert send(server, visit()).status == 200
    (salt,) = (server.data_dir / "cookieless").iterdir()
    assert salt.stat().st_mode & 0o777 == 0o600
    metrics = server.get_admin("/metrics").body.decode()
    assert "\npenstock_engine_cookieless_salts 1\n" in metrics


def test_events_that_come_too_late_are_refused_and_kept_without_secrets(server):
    now = datetime.now(UTC)
    assert send(server, visit(at=now - 100 * HOUR)).status == 400
    assert send(server, visit(at=now - 60 * HOUR)).status == 200
    (row,) = server.query("SELECT reason, raw FROM rejected")
    assert row["reason"] == "cookieless_timestamp_out_of_range"
    assert AGENT not in row["raw"]


def test_capture_v1_says_it_in_options_and_hears_of_each_event(server):
    now = TODAY.isoformat()
    properties = visit()["properties"]
    for name in ("$cookieless_mode", "distinct_id", "token"):
        del properties[name]
    events = [
        {
            "event": name,
            "uuid": str(uuid.uuid4()),
            "distinct_id": SENTINEL,
            "timestamp": now,
            "options": {"cookieless_mode": True},
            "properties": properties,
        }
        for name in ("seen", "$merge_dangerously")
    ]
    headers = {
        "Authorization": "Bearer phc_site",
        "Content-Type": "application/json",
        "User-Agent": "posthog-test/1.2.3",
        "PostHog-Sdk-Info": "posthog-test/1.2.3",
        "PostHog-Attempt": "1",
        "PostHog-Request-Id": str(uuid.uuid4()),
        "PostHog-Request-Timestamp": datetime.now(UTC).isoformat(),
    }
    body = json.dumps({"created_at": now, "batch": events}).encode()
    answer = server.request(
        "POST",
        "/i/v1/analytics/events",
        body=body,
        headers=[*headers.items(), *forwarded(ADA)],
    )
    assert answer.status == 200
    assert [tuple(result.values()) for result in answer.json()["results"].values()] == [
        ("ok",),
        ("drop", "cookieless_unsupported_event"),
    ]
    assert send(server, visit()).status == 200
    rows = stored(server)
    assert len({row["distinct_id"] for row in rows}) == 1
    assert len({row["session_id"] for row in rows}) == 1


def test_other_events_of_the_same_request_are_stored_as_ever(server):
    named = visit("named", distinct_id="ada", **{"$cookieless_mode": False})
    assert send(server, visit(), named).status == 200
    assert [(row["event"], row["ip"]) for row in stored(server)] == [
        ("$pageview", None),
        ("named", ADA),
    ]
    wrong = send(server, visit(**{"$cookieless_mode": "yes"}))
    assert wrong.status == 400
    assert wrong.body.startswith(b"event submitted with invalid cookieless mode")


def test_a_log_that_is_sent_again_says_the_same(server, start, tmp_path):
    """Another server has other salts; what has ids keeps them."""
    ada = visit("$identify", distinct_id="ada", **{"$anon_distinct_id": SENTINEL})
    assert send(server, visit(), visit("click"), ada).status == 200
    wanted = stored(server)
    assert server.stop() == 0
    other = start(tmp_path / "other", trusted_proxies=1, flush_interval_seconds=3600)
    penstock("wal", "replay", "--data-dir", server.data_dir, "--into", other.http_url)
    kept = ("event", "uuid", "distinct_id", "session_id", "ip", "properties")
    found = [{name: row[name] for name in kept} for row in stored(other)]
    assert found == [{name: row[name] for name in kept} for row in wanted]
    assert "$anon_distinct_id" not in found[2]["properties"]


def test_wal_cat_says_that_a_payload_is_not_as_received(server):
    assert send(server, visit()).status == 200
    plain = {"event": "plain", "distinct_id": "ada"}
    assert send(server, plain).status == 200
    lines = penstock("wal", "cat", "--data-dir", server.data_dir).splitlines()
    assert ["rewritten=cookieless" in line.split() for line in lines] == [True, False]
