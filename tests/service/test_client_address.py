"""Whose address is stored: behind proxies, and for projects that store none."""

import gzip
import json
import uuid

import pytest

from penstock.client import AsyncIngestClient

pytestmark = pytest.mark.service

ADDRESS = "203.0.113.199"
FORWARDED = ("X-Forwarded-For", f"6.6.6.6, {ADDRESS}")
PROJECTS = {
    "shop": {"tokens": ["phc_shop"]},
    "clinic": {"tokens": ["phc_clinic"], "client_ip": "discard"},
}
SELECT = "SELECT event, ip, properties FROM events WHERE project = '{}' ORDER BY event"


def events(*names: str, **properties: object) -> list[dict[str, object]]:
    return [
        {"event": name, "distinct_id": "d", "uuid": str(uuid.uuid4()), "properties": properties}
        for name in names
    ]


def batch(token: str, *names: str, **properties: object) -> dict[str, object]:
    return {"api_key": token, "batch": events(*names, **properties)}


def files_with_address(folder) -> list[str]:
    """Name the files that hold the address, as a text or as the bytes of one."""
    needles = (ADDRESS.encode(), bytes(map(int, ADDRESS.split("."))))
    return [
        path.name
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


async def test_a_project_that_stores_no_address_has_none_anywhere_also_after_a_crash(start):
    settings = {
        "projects": json.dumps(PROJECTS),
        "trusted_proxies": 1,
        "flush_interval_seconds": 3600,
    }
    server = start(**settings)
    refused = {"event": "", "distinct_id": "d", "properties": {"$ip": ADDRESS}}
    sent = [*events("with", **{"$ip": ADDRESS, "kept": 1}), *events("without", kept=2), refused]
    body = {"api_key": "phc_clinic", "batch": sent}
    assert server.post_json("/batch", body, [FORWARDED]).status == 200
    packed = gzip.compress(json.dumps(batch("phc_clinic", "zipped", **{"$ip": ADDRESS})).encode())
    assert server.request("POST", "/e/", body=packed, headers=[FORWARDED]).status == 200
    assert server.post_json("/e/", batch("phc_clinic", "header"), [FORWARDED]).status == 200
    async with AsyncIngestClient(server.grpc_target, token="phc_clinic") as client:
        await client.append(events("grpc", **{"$ip": ADDRESS}))
    server.kill()
    assert files_with_address(server.data_dir) == []

    # What a start and a query read back is what was decided then, whatever the settings say now.
    server = start(**{**settings, "projects": json.dumps({"shop": PROJECTS["shop"]})})
    rows = server.query(SELECT.format("clinic"))
    stored = [(row["event"], row["ip"], json.loads(row["properties"])) for row in rows]
    assert stored == [
        ("grpc", None, {}),
        ("header", None, {}),
        ("with", None, {"kept": 1}),
        ("without", None, {"kept": 2}),
        ("zipped", None, {}),
    ]
    (row,) = server.query("SELECT reason, raw FROM rejected")
    assert row["reason"] == "empty_event_name"
    assert json.loads(row["raw"])["properties"] == {}
    assert server.stop() == 0
    assert files_with_address(server.data_dir) == []


def test_a_project_beside_it_keeps_addresses(start):
    server = start(projects=json.dumps(PROJECTS), trusted_proxies=1, flush_interval_seconds=3600)
    own = batch("phc_shop", "own", **{"$ip": "198.51.100.1"})
    for body in (own, batch("phc_shop", "header")):
        assert server.post_json("/batch", body, [FORWARDED]).status == 200
    rows = server.query(SELECT.format("shop"))
    assert [(row["event"], row["ip"]) for row in rows] == [
        ("header", ADDRESS),
        ("own", "198.51.100.1"),
    ]
    assert json.loads(rows[1]["properties"]) == {"$ip": "198.51.100.1"}


def test_the_setting_of_the_server_holds_for_projects_that_say_nothing(start):
    server = start(client_ip="discard", trusted_proxies=1)
    assert server.post_json("/batch", batch("phc_x", "e"), [FORWARDED]).status == 200
    assert [row["ip"] for row in server.query("SELECT ip FROM events")] == [None]
