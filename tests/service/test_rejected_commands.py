"""`penstock rejected` on the data directory of a real server: list, show, repair, store once."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from support.command import TIMEOUT_SECONDS, run_penstock

pytestmark = pytest.mark.service

TOKEN = "phc_rejected_commands"
OWN_ID = "0192f0c1-2345-7abc-8def-0123456789ab"


def rejected(*arguments, input_text=None):
    """Run the command; its exit code, output and errors."""
    return run_penstock("rejected", *arguments, input_text=input_text)


def listed(data_dir, *options):
    done = rejected("list", "--data-dir", data_dir, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def retry(server, *options, input_text=None):
    return rejected(
        *("retry", "--data-dir", server.data_dir, "--into", server.http_url, *options),
        input_text=input_text,
    )


def send(server, *events, token=TOKEN, endpoint="/batch"):
    """Send events of which at least one is good, so that the request is answered with 200."""
    good = {"event": "good", "distinct_id": "ada", "uuid": str(uuid.uuid4())}
    answer = server.post_json(endpoint, {"api_key": token, "batch": [*events, good]})
    assert answer.status == 200


def stored(server, event):
    rows = server.query(f"SELECT * FROM events WHERE event = '{event}'")
    for row in rows:
        row["properties"] = json.loads(row["properties"])
    return rows


# What is above the table and what is in it must be seen alike.
@pytest.fixture(params=[0.05, 3600], ids=["table", "tail"])
def server(request, start):
    return start(flush_interval_seconds=request.param)


def test_refused_events_are_listed_newest_first_without_their_text(server):
    send(server, {"event": "one", "properties": {"secret": "s3cret"}})
    send(server, {"event": "", "distinct_id": "ada"}, {"event": "two", "uuid": OWN_ID})

    rows = listed(server.data_dir)

    assert [(row["id"], row["reason"], row["event"], row["uuid"]) for row in rows] == [
        ("2.1", "missing_distinct_id", "two", OWN_ID),
        ("2.0", "empty_event_name", None, None),
        ("1.0", "missing_distinct_id", "one", None),
    ]
    assert {row["project"] for row in rows} == {"phc_reje…"}
    assert rows[2]["raw_bytes"] == len('{"event": "one", "properties": {"secret": "s3cret"}}')
    text = rejected("list", "--data-dir", server.data_dir)
    assert text.returncode == 0
    assert "missing_distinct_id" in text.stdout
    for secret in ("s3cret", TOKEN):
        assert secret not in text.stdout + json.dumps(rows)


def test_list_is_filtered(start):
    server = start()
    send(server, {"event": "one"})
    send(server, {"event": "", "distinct_id": "ada"}, token="phc_other")

    def ids(*options):
        return [row["id"] for row in listed(server.data_dir, *options)]

    assert ids("--project", TOKEN) == ["1.0"]
    assert ids("--reason", "empty_event_name") == ["2.0"]
    assert ids("--since", "1h") == ["2.0", "1.0"]
    assert ids("--since", "2999-01-01") == []
    assert ids("--limit", "1") == ["2.0"]


def test_one_is_shown_with_its_text(start):
    server = start()
    raw = '{"event": "one", "properties": {"text": "é\\u001b[31m"}}'
    body = f'{{"api_key": "{TOKEN}", "batch": [{raw}, {{"event": "e", "distinct_id": "a"}}]}}'
    assert server.request("POST", "/batch", body=body.encode()).status == 200

    alone = rejected("show", "1.0", "--raw", "--data-dir", server.data_dir)
    whole = rejected("show", "1.0", "--json", "--data-dir", server.data_dir)
    people = rejected("show", "1.0", "--data-dir", server.data_dir)

    assert (alone.returncode, alone.stdout) == (0, raw)
    fields = json.loads(whole.stdout)
    assert (fields["raw"], fields["token"], fields["reason"]) == (raw, TOKEN, "missing_distinct_id")
    assert raw in people.stdout
    assert "reason: missing_distinct_id" in people.stdout


def test_repaired_event_is_stored_once_with_the_time_of_its_receipt(server):
    send(server, {"event": "mended", "properties": {"n": 12345678901234567890}})
    (before,) = listed(server.data_dir)

    repair = ("1.0", "--set", 'distinct_id="ada"')
    first, second = retry(server, *repair), retry(server, *repair)

    for done in (first, second):
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "1 event stored, 0 refused\n"
    (row,) = stored(server, "mended")
    assert row["distinct_id"] == "ada"
    assert row["properties"]["n"] == 12345678901234567890
    assert row["timestamp"] == before["received_at"]
    assert row["received_at"] > before["received_at"]


def test_edited_text_is_sent_instead(start, tmp_path):
    server = start()
    send(server, {"event": "broken", "uuid": "no uuid", "distinct_id": "ada"})
    edited = tmp_path / "event.json"
    edited.write_text(f'{{"event": "edited", "uuid": "{OWN_ID}", "distinct_id": "ada"}}')

    by_file = retry(server, "1.0", "--event", edited)
    by_pipe = retry(server, "1.0", "--event", "-", input_text=edited.read_text())

    assert (by_file.returncode, by_pipe.returncode) == (0, 0), by_file.stderr + by_pipe.stderr
    (row,) = stored(server, "edited")
    assert row["uuid"] == OWN_ID


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_wrong_ids_of_many_are_replaced_at_once(start):
    server = start()
    # More than are read at once.
    wrong = [{"event": "many", "uuid": "no uuid", "distinct_id": f"user-{n}"} for n in range(120)]
    send(server, *wrong)

    unchanged = retry(server, "--reason", "invalid_uuid", "--limit", "2")
    done = retry(server, "--reason", "invalid_uuid", "--since", "1h", "--new-uuid")

    assert unchanged.returncode == 1
    assert unchanged.stdout.startswith("0 events stored, 2 refused\nthere may be more")
    assert "refused: 1.0: failed to parse request: uuid is not a UUID" in unchanged.stderr
    # Those two were refused once more, and are in `rejected` once more, but are the same events.
    assert done.stdout == "122 events stored, 0 refused\n", done.stderr
    rows = stored(server, "many")
    assert sorted(row["distinct_id"] for row in rows) == sorted(f"user-{n}" for n in range(120))


def test_event_of_another_token_is_sent_under_it(start):
    server = start()
    send(server, {"event": "moved", "distinct_id": "ada", "api_key": "phc_of_its_own"})
    assert [row["reason"] for row in listed(server.data_dir)] == ["token_mismatch"]

    assert retry(server, "1.0").returncode == 1
    assert retry(server, "1.0", "--token", "phc_of_its_own").returncode == 0

    assert [row["project"] for row in stored(server, "moved")] == ["phc_of_its_own"]


def test_event_of_capture_v1_goes_by_it_again_with_its_options(start):
    server = start()
    event = {
        "event": "by v1",
        "uuid": OWN_ID,
        "distinct_id": "d" * 201,
        "timestamp": "2026-01-02T03:04:05Z",
        "session_id": "s",
        "options": {"process_person_profile": False, "product_tour_id": 7},
        "properties": {"n": 1},
    }
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
        "User-Agent": "test",
        "PostHog-Sdk-Info": "test/1",
        "PostHog-Attempt": "1",
        "PostHog-Request-Id": OWN_ID,
        "PostHog-Request-Timestamp": "2026-01-02T03:04:05Z",
    }
    body = json.dumps({"created_at": "2026-01-02T03:04:05Z", "batch": [event]}).encode()
    path = "/i/v1/analytics/events"
    assert server.request("POST", path, body=body, headers=list(headers.items())).status == 200

    unchanged = retry(server, "1.0")
    done = retry(server, "1.0", "--set", 'distinct_id="ada"')

    # What the older protocol would have cut and taken is refused again.
    assert (unchanged.returncode, unchanged.stderr) == (1, "refused: 1.0: distinct_id_too_large\n")
    assert done.returncode == 0, done.stderr
    (row,) = stored(server, "by v1")
    assert (row["uuid"], row["session_id"], row["person_mode"]) == (OWN_ID, "s", "propertyless")
    assert row["properties"] == {
        "n": 1,
        "$session_id": "s",
        "$process_person_profile": False,
        "$product_tour_id": "7",
    }
    moved = datetime.fromisoformat(row["timestamp"]) - datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert abs(moved) < timedelta(minutes=1)


def test_ai_event_of_a_form_goes_as_a_form_again(start):
    server = start()
    boundary = "of-a-test"
    event = json.dumps({"event": "$ai_form", "distinct_id": "ada", "uuid": OWN_ID}).encode()
    blob = b"\x00blob"
    body = (
        b'--of-a-test\r\nContent-Disposition: form-data; name="event"\r\n\r\n%s\r\n'
        b'--of-a-test\r\nContent-Disposition: form-data; name="event.properties.$ai_input"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n--of-a-test--\r\n" % (event, blob)
    )
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": f"multipart/form-data; boundary={boundary}",
    }
    answer = server.request("POST", "/i/v0/ai", body=body, headers=list(headers.items()))
    assert answer.status == 400

    unchanged = retry(server, "1.0")
    properties = '{"$ai_model":"m","$ai_input":"data:application/octet-stream;base64,AGJsb2I="}'
    done = retry(server, "1.0", "--set", f"properties={properties}")

    # A batch would have taken it without a model.
    assert unchanged.returncode == 1
    assert "$ai_model is missing" in unchanged.stderr
    assert done.returncode == 0, done.stderr
    (row,) = stored(server, "$ai_form")
    assert (row["uuid"], row["properties"]) == (OWN_ID, json.loads(properties))


def test_event_whose_text_was_cut_is_told_and_sent_when_given_whole(start, tmp_path):
    server = start(max_event_bytes=100_000)
    event = {"event": "long", "distinct_id": "ada", "properties": {"text": "x" * 110_000}}
    send(server, event)
    short = tmp_path / "event.json"
    short.write_text(json.dumps(event | {"properties": {"text": "x" * 80_000}}))

    as_it_is = retry(server, "1.0")
    assert as_it_is.returncode == 1
    assert "refused: 1.0: its text was cut when it was kept; give a whole one" in as_it_is.stderr
    assert retry(server, "1.0", "--event", short).returncode == 0

    (row,) = stored(server, "long")
    assert len(row["properties"]["text"]) == 80_000


def test_what_is_wrong_with_a_command_is_told(start, tmp_path):
    server = start()
    send(server, {"event": "one"})
    for failing in ("1.0 --event none", "9.0"):
        done = retry(server, *failing.split())
        assert done.returncode == 1, done.stderr
    for misused in (
        "",
        "1",
        "1.0 1.1 --event -",
        "1.0 --set distinct_id=ada",
        "--since yesterday",
    ):
        done = retry(server, *misused.split())
        assert (done.returncode, done.stdout) == (2, "")
    assert rejected("list", "--data-dir", tmp_path).returncode == 3


def test_service_out_of_reach_is_exit_1_and_nothing_is_stored(start):
    server = start()
    send(server, {"event": "one"})
    done = rejected(
        *("retry", "1.0", "--data-dir", server.data_dir, "--into", "http://127.0.0.1:1"),
        *("--set", 'distinct_id="ada"'),
    )
    assert done.returncode == 1
    assert "1.0: the service can't be reached" in done.stderr
    assert "0 stored, 0 refused before it" in done.stderr
    assert stored(server, "one") == []
