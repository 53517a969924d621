"""posthog-js on a page in headless Chromium against a real server; then SQL.

Two ways: the npm build, imported by a page that sends straight to the server from another origin;
and `array.js`, as the snippet loads it, behind a reverse proxy that keeps its own path `/ingest`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import StartServer
from support.sdk_runtimes import Driver, chromium, node_command, start_driver
from support.server import RunningServer, address_text, start_server

# The first test that needs a runtime installs its packages.
pytestmark = [pytest.mark.sdk, pytest.mark.timeout(400), pytest.mark.conformance("web")]

WAYS = ("module", "snippet")
PREFIX = ("--prefix", "/ingest")
# What is sent while a page is left has no answer that a page could wait for: the table is asked.
TIMES_ASKED = 12

Row = dict[str, Any]


class Page:
    """One Chromium; each scenario has a page, a storage and a token of its own."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.told: dict[str, dict[str, Any]] = {}

    def begin(self, server_url: str, scenario: str, way: str) -> str:
        """Start a scenario; returns its token."""
        token = f"phc_web_{scenario}_{way}"
        line = {"scenario": scenario, "way": way, "server": server_url, "token": token}
        self.driver.tell(line)
        return token

    def go_on(self) -> None:
        self.driver.tell({"go": True})

    def end(self, token: str) -> None:
        """Wait until the page was left."""
        self.driver.wait_for("done")
        self.told[token] = self.driver.said[-1]

    def send(self, server: RunningServer, scenario: str, way: str, wanted: set[str]) -> list[Row]:
        """Run a scenario, leaving its page only when `wanted` is stored: its project's rows.

        A page that is left at once loses what it is just sending, to any server.
        """
        token = self.begin(server.http_url, scenario, way)
        self.driver.wait_for("waiting")
        rows_with(server, token, wanted)
        self.go_on()
        self.end(token)
        return rows_with(server, token, wanted | {"$pageleave"})


def rows_with(server: RunningServer, token: str, wanted: set[str]) -> list[Row]:
    rows: list[Row] = []
    for _ in range(TIMES_ASKED):
        rows = server.query(
            f"SELECT * FROM events WHERE project = '{token}' ORDER BY log_position, batch_index"
        )
        if wanted <= {row["event"] for row in rows}:
            break
    for row in rows:
        row["properties"] = json.loads(row["properties"])
    assert wanted <= {row["event"] for row in rows}
    assert len({row["uuid"] for row in rows}) == len(rows)
    assert {row["lib"] for row in rows} == {"web"}
    return rows


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    browser = chromium()
    driver = start_driver([*node_command("web_sdk.mjs"), browser])
    yield Page(driver)
    driver.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("web")
    running = start_server(folder / "data", folder / "server", args=PREFIX)
    yield running
    assert running.stop() == 0, running.log()


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rows(page: Page, server: RunningServer, way: str) -> list[Row]:
    """What a visit left in which everything is done once."""
    wanted = {"$pageview", "custom event", "$identify", "$groupidentify", "after identify"}
    return page.send(server, "everything", way, wanted)


def one(rows: list[Row], event: str) -> Row:
    (row,) = (row for row in rows if row["event"] == event)
    return row


def test_page_view_and_page_leave_are_of_one_session(rows: list[Row]) -> None:
    view, leave = one(rows, "$pageview"), one(rows, "$pageleave")
    assert view["properties"]["$current_url"] == leave["properties"]["$current_url"]
    assert view["properties"]["title"] == "Shop"
    assert view["session_id"] == leave["session_id"] is not None
    assert view["window_id"] == leave["window_id"] is not None


def test_clicks_and_the_form_are_captured_by_themselves(rows: list[Row]) -> None:
    captured = [row for row in rows if row["event"] == "$autocapture"]
    kinds = Counter(row["properties"]["$event_type"] for row in captured)
    assert kinds == {"click": 2, "change": 1, "submit": 1}
    chains = [row["elements_chain"] for row in captured]
    assert any(chain.startswith("button.big:") and 'text="Buy"' in chain for chain in chains)
    assert any(chain.startswith("form:") for chain in chains)


def test_custom_event_keeps_its_properties(rows: list[Row]) -> None:
    row = one(rows, "custom event")
    sent = {"plan": "team", "n": 42, "f": 1.5, "nested": {"a": [1, "two", None]}, "t": "é🦔"}
    assert row["properties"] | sent == row["properties"]
    assert row["sent_at"] is not None


def test_calls_made_before_the_script_came_are_sent(rows: list[Row], way: str) -> None:
    early = [row for row in rows if row["event"] == "before the script came"]
    assert len(early) == (way == "snippet")


def test_person_is_anonymous_until_identified(rows: list[Row]) -> None:
    before, identify = one(rows, "custom event"), one(rows, "$identify")
    after = one(rows, "after identify")
    assert before["person_mode"] == "propertyless"
    assert (identify["person_mode"], after["person_mode"]) == ("full", "full")
    assert identify["distinct_id"] == after["distinct_id"] == "ada"
    assert identify["properties"]["$anon_distinct_id"] == before["distinct_id"]
    assert identify["properties"]["$set"] == {"name": "Ada"}
    # The SDK adds where the visitor came from.
    assert identify["properties"]["$set_once"]["first_seen"] == "today"


def test_group_and_event_in_a_group_arrive(rows: list[Row]) -> None:
    group = one(rows, "$groupidentify")["properties"]
    assert (group["$group_type"], group["$group_key"]) == ("company", "acme")
    assert group["$group_set"] == {"name": "Acme"}
    assert one(rows, "after identify")["properties"]["$groups"] == {"company": "acme"}


def test_every_answer_to_a_capture_was_200(page: Page, rows: list[Row], way: str) -> None:
    del rows
    captures = page.told[f"phc_web_everything_{way}"]["captures"]
    # What is sent while the page is left has no answer that the page lives to see.
    assert {capture["status"] for capture in captures} - {0} == {200}
    prefix = "/ingest/" if way == "snippet" else "/"
    assert all(capture["path"].startswith(prefix) for capture in captures)


def test_page_without_any_setting_but_the_host_sends(
    page: Page, server: RunningServer, way: str
) -> None:
    rows = page.send(server, "nothing_set", way, {"$pageview", "custom event"})
    for event in ("$pageview", "custom event", "$pageleave"):
        one(rows, event)


def test_nothing_is_sent_while_opted_out(page: Page, server: RunningServer, way: str) -> None:
    rows = page.send(server, "opted_out", way, {"before", "seen again"})
    events = [row["event"] for row in rows]
    assert events.count("before") == events.count("seen again") == 1
    assert not {"hidden", "$autocapture"} & set(events)


def test_visitor_without_cookies_is_the_same_on_the_next_visit_and_nameless(
    page: Page, server: RunningServer, way: str
) -> None:
    wanted = {"$pageview", "custom event", "$identify", "after identify"}
    page.send(server, "cookieless", way, wanted)
    # Another browser's storage, and the same browser.
    rows = page.send(server, "cookieless", way, wanted)
    views = [row for row in rows if row["event"] in {"$pageview", "custom event"}]
    (visitor,) = {row["distinct_id"] for row in views}
    assert len(views) == 4
    assert visitor.startswith("cookieless_")
    assert len({row["session_id"] for row in rows}) == 1
    named = [row for row in rows if row["event"] in {"$identify", "after identify"}]
    assert {row["distinct_id"] for row in named} == {"ada"}
    for row in rows:
        assert row["ip"] is None
        assert not {"$raw_user_agent", "$anon_distinct_id"} & set(row["properties"])
        assert "Mozilla" not in json.dumps(row["properties"])


def test_what_is_queued_when_the_page_is_left_goes_as_a_beacon(
    page: Page, server: RunningServer, way: str
) -> None:
    token = page.begin(server.http_url, "unload", way)
    page.end(token)
    one(rows_with(server, token, {"last words", "$pageleave"}), "last words")
    assert page.told[token]["beacons"] > 0


def test_events_sent_while_the_server_is_away_are_stored_once_it_is_back(
    page: Page, start: StartServer, way: str
) -> None:
    server = start(args=PREFIX)
    address = address_text(server.http)
    assert server.stop() == 0
    token = page.begin(server.http_url, "away", way)
    page.driver.wait_for("waiting")

    server = start(args=(*PREFIX, "--http", address))
    page.go_on()
    page.end(token)

    one(rows_with(server, token, {"while it was away", "$pageview"}), "while it was away")
