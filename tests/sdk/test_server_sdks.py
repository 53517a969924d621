"""The SDKs of Node and Go against a real server: what they send is what SQL finds."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from conftest import StartServer
from support.sdk_runtimes import Driver, go_command, node_command, start_driver
from support.server import RunningServer, address_text

# The first test that needs a runtime installs its packages.
pytestmark = [pytest.mark.sdk, pytest.mark.timeout(400)]

BATCH = 250
COMMANDS: dict[str, Callable[[], list[str]]] = {
    "node": lambda: node_command("server_sdk.mjs"),
    "go": go_command,
}

Rows = dict[str, dict[str, Any]]


class Sdk:
    """One SDK, told what to send by the name of a scenario."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.command = COMMANDS[name]()
        self.drivers: list[Driver] = []

    def start(self, host: str, token: str, scenario: str) -> Driver:
        driver = start_driver([*self.command, host, token, scenario])
        self.drivers.append(driver)
        return driver

    def send(self, server: RunningServer, scenario: str) -> list[dict[str, Any]]:
        """Run a scenario to its end; the rows of its project, in order of arrival."""
        token = f"phc_{self.name}_{scenario}"
        driver = self.start(server.http_url, token, scenario)
        driver.finish()
        assert driver.said == [{"errors": []}]
        return rows_of(server, token)


def rows_of(server: RunningServer, token: str) -> list[dict[str, Any]]:
    rows = server.query(
        f"SELECT * FROM events WHERE project = '{token}' ORDER BY log_position, batch_index"
    )
    for row in rows:
        row["properties"] = json.loads(row["properties"])
        assert row["token"] == token
    return rows


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.conformance(name)) for name in COMMANDS],
)
def sdk(request: pytest.FixtureRequest) -> Iterator[Sdk]:
    made = Sdk(request.param)
    yield made
    for driver in made.drivers:
        driver.end()


@pytest.fixture(scope="module")
def rows(sdk: Sdk, running_server: RunningServer) -> Rows:
    """By event, what one of each kind left; each must be there once."""
    found = sdk.send(running_server, "everything")
    by_event = {row["event"]: row for row in found}
    assert len(by_event) == len(found)
    return by_event


def test_properties_of_every_type_are_kept(sdk: Sdk, rows: Rows) -> None:
    row = rows["with properties"]
    sent = {"plan": "team", "n": 42, "f": 1.5, "nested": {"a": [1, "two", None]}, "t": "é🦔"}
    assert row["distinct_id"] == "ada"
    assert row["properties"] | sent == row["properties"]
    assert row["lib"] == f"posthog-{sdk.name}"
    assert row["person_mode"] == "full"


def test_event_id_and_time_given_by_the_caller_are_kept(rows: Rows) -> None:
    row = rows["own id and time"]
    assert row["uuid"].startswith("0192f0c1-2345-7abc-8def-0123456789a")
    assert datetime.fromisoformat(row["client_timestamp"]) == datetime.fromisoformat(
        "2026-01-02T03:04:05.678Z"
    )


def test_identify_and_alias_arrive(rows: Rows) -> None:
    assert rows["$identify"]["distinct_id"] == "ada"
    assert rows["$identify"]["properties"]["$set"]["name"] == "Ada"
    # Go's client names the person only in the properties.
    assert rows["$create_alias"]["distinct_id"] == "ada"
    assert rows["$create_alias"]["properties"]["alias"] == "anonymous-1"


def test_group_and_event_in_a_group_arrive(rows: Rows) -> None:
    group = rows["$groupidentify"]["properties"]
    assert (group["$group_type"], group["$group_key"]) == ("company", "acme")
    assert group["$group_set"] == {"name": "Acme"}
    assert rows["in group"]["properties"]["$groups"] == {"company": "acme"}


def test_exception_arrives_with_its_type(rows: Rows) -> None:
    row = rows["$exception"]
    assert row["distinct_id"] == "ada"
    assert row["properties"]["$exception_list"][0]["type"] == "RangeError"


def test_anonymous_event_is_marked_propertyless(rows: Rows) -> None:
    assert rows["anonymous"]["person_mode"] == "propertyless"


@pytest.mark.parametrize("scenario", ["plain", "compressed", "historical"])
def test_every_event_of_many_is_stored_once(
    sdk: Sdk, running_server: RunningServer, scenario: str
) -> None:
    rows = sdk.send(running_server, scenario)
    assert sorted(row["properties"]["n"] for row in rows) == list(range(BATCH))
    assert {row["historical"] for row in rows} == {scenario == "historical"}


def test_events_sent_while_the_server_is_away_are_stored_once_it_is_back(
    sdk: Sdk, start: StartServer
) -> None:
    server = start()
    address, url = address_text(server.http), server.http_url
    assert server.stop() == 0
    driver = sdk.start(url, "phc_away", "plain")
    driver.wait_for("failed")

    server = start(args=("--http", address))
    driver.finish()

    assert driver.said[-1] == {"errors": []}
    rows = rows_of(server, "phc_away")
    assert sorted(row["properties"]["n"] for row in rows) == list(range(BATCH))
