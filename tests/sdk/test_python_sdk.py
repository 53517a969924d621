"""The real `posthog` package against a real server: what it sends is what SQL finds."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import posthog
import pytest

from support.server import RunningServer

pytestmark = [pytest.mark.sdk, pytest.mark.conformance("python")]

EVENT_ID = "0192f0c1-2345-7abc-8def-0123456789ab"
BATCH = 250


class Sdk:
    """One client of the SDK with a token of its own, and what it left in the table."""

    def __init__(self, server: RunningServer, token: str, **options: Any) -> None:
        self.token = token
        self.errors: list[object] = []
        self.client = posthog.Posthog(
            token,
            host=server.http_url,
            on_error=lambda error, _batch: self.errors.append(error),
            **options,
        )
        self._server = server

    def metrics(self) -> str:
        """Return what the server counts, over all clients."""
        return self._server.get_admin("/metrics").body.decode()

    def rows(self) -> list[dict[str, Any]]:
        """Wait until all is answered, and return this project's rows in order of arrival."""
        self.client.shutdown()
        assert self.errors == []
        rows = self._server.query(
            "SELECT * FROM events"
            f" WHERE project = '{self.token}' ORDER BY log_position, batch_index"
        )
        for row in rows:
            row["properties"] = json.loads(row["properties"])
        return rows


@pytest.fixture
def sdk(running_server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Sdk]:
    options = getattr(request, "param", {})
    made = Sdk(running_server, f"phc_{request.node.originalname}", **options)
    yield made
    made.client.shutdown()


def test_captured_event_keeps_its_properties(sdk: Sdk) -> None:
    properties = {"plan": "team", "n": 42, "f": 1.5, "nested": {"a": [1, "two", None]}, "t": "é🦔"}
    sdk.client.capture("signed up", distinct_id="ada", properties=properties)

    (row,) = sdk.rows()

    assert (row["event"], row["distinct_id"], row["lib"]) == ("signed up", "ada", "posthog-python")
    assert row["properties"] | properties == row["properties"]
    assert row["token"] == sdk.token
    assert row["person_mode"] == "full"
    assert row["sent_at"] is not None


def test_event_id_and_time_given_by_the_caller_are_kept(sdk: Sdk) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    sdk.client.capture("own id", distinct_id="ada", uuid=EVENT_ID, timestamp=when)

    (row,) = sdk.rows()

    assert row["uuid"] == EVENT_ID
    assert datetime.fromisoformat(row["client_timestamp"]) == when


def test_identify_sets_and_alias_arrive(sdk: Sdk) -> None:
    sdk.client.set(distinct_id="ada", properties={"name": "Ada"})
    sdk.client.set_once(distinct_id="ada", properties={"first_seen": "today"})
    sdk.client.alias(previous_id="anonymous-1", distinct_id="ada")

    rows = {row["event"]: row for row in sdk.rows()}

    # The SDK sends `$set` beside `properties`; in the table it stands inside.
    assert rows["$set"]["properties"]["$set"] == {"name": "Ada"}
    assert rows["$set_once"]["properties"]["$set_once"] == {"first_seen": "today"}
    assert rows["$create_alias"]["properties"]["alias"] == "ada"


def test_group_and_event_in_a_group_arrive(sdk: Sdk) -> None:
    sdk.client.group_identify("company", "acme", properties={"name": "Acme"})
    sdk.client.capture("in group", distinct_id="ada", groups={"company": "acme"})

    rows = {row["event"]: row for row in sdk.rows()}

    assert rows["$groupidentify"]["properties"]["$group_key"] == "acme"
    assert rows["in group"]["properties"]["$groups"] == {"company": "acme"}


def test_exception_arrives_with_its_type(sdk: Sdk) -> None:
    try:
        raise LookupError("no such page")
    except LookupError as error:
        sdk.client.capture_exception(error, distinct_id="ada")

    (row,) = sdk.rows()

    assert row["event"] == "$exception"
    assert row["properties"]["$exception_list"][0]["type"] == "LookupError"


def test_anonymous_event_is_marked_propertyless(sdk: Sdk) -> None:
    sdk.client.capture(
        "looked", distinct_id="visitor", properties={"$process_person_profile": False}
    )

    (row,) = sdk.rows()

    assert row["person_mode"] == "propertyless"


@pytest.mark.parametrize(
    "sdk",
    [{"gzip": True}, {"gzip": False}, {"historical_migration": True}, {"sync_mode": True}],
    ids=["gzip", "plain", "historical", "sync"],
    indirect=True,
)
def test_every_event_of_many_is_stored_once(sdk: Sdk) -> None:
    # The token is the test's name: the cases share it, so each counts its own marker.
    marker = f"{sdk.client.gzip}-{sdk.client.historical_migration}-{sdk.client.sync_mode}"
    for number in range(BATCH):
        sdk.client.capture(
            "many", distinct_id=f"user-{number % 7}", properties={"n": number, "m": marker}
        )

    rows = [row for row in sdk.rows() if row["properties"]["m"] == marker]

    assert sorted(row["properties"]["n"] for row in rows) == list(range(BATCH))
    assert {row["historical"] for row in rows} == {sdk.client.historical_migration}


@pytest.mark.parametrize(
    "sdk",
    [{"capture_mode": "v1"}, {"capture_mode": "v1", "gzip": True}],
    ids=["plain", "gzip"],
    indirect=True,
)
def test_capture_v1_stores_what_the_older_protocol_does(sdk: Sdk) -> None:
    marker = str(sdk.client.gzip)
    properties = {"m": marker, "nested": {"a": [1, None]}, "$session_id": "s", "t": "é🦔"}
    sdk.client.capture("signed up", distinct_id="ada", properties=properties)
    sdk.client.capture(
        "looked", distinct_id="visitor", properties={"m": marker, "$process_person_profile": False}
    )
    sdk.client.set(distinct_id="ada", properties={"m": marker})

    rows = {row["event"]: row for row in sdk.rows() if marker in json.dumps(row["properties"])}

    signed_up = rows["signed up"]
    assert signed_up["properties"] | properties == signed_up["properties"]
    assert (signed_up["lib"], signed_up["session_id"]) == ("posthog-python", "s")
    assert signed_up["person_mode"] == "full"
    assert rows["looked"]["person_mode"] == "propertyless"
    assert rows["$set"]["properties"]["$set"] == {"m": marker}
    assert signed_up["sent_at"] is not None
    assert 'route="i/v1/analytics/events",status="200"' in sdk.metrics()


@pytest.mark.parametrize("sdk", [{"capture_mode": "v1"}], indirect=True)
def test_capture_v1_reports_the_one_event_that_is_refused(sdk: Sdk) -> None:
    sdk.client.capture("good", distinct_id="ada")
    sdk.client.capture("x" * 201, distinct_id="ada")
    sdk.client.shutdown()

    (error,) = sdk.errors
    assert "event_name_too_long" in str(getattr(error, "drops", error))
    sdk.errors.clear()
    assert [row["event"] for row in sdk.rows()] == ["good"]
