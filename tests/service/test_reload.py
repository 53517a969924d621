"""SIGHUP: projects and remote config change, nothing else does, and no connection is dropped."""

import json
import signal
import socket
import time
import uuid

import pytest

from penstock.client import AppendError, AsyncIngestClient
from support.http import read_response, request_bytes

pytestmark = pytest.mark.service

BEFORE = """
[projects.shop]
tokens = ["phc_old", "phc_both"]
"""
AFTER = """
[projects.store]
tokens = ["phc_new", "phc_both"]
ack = "table"
[projects.store.remote_config]
autocapture = false
"""


class Client:
    """One connection that is kept."""

    def __init__(self, server):
        self.socket = socket.create_connection(server.http, timeout=30)
        self.stream = self.socket.makefile("rb")

    def ask(self, method, target, body=b""):
        headers = [("Host", "x"), ("Content-Length", str(len(body)))]
        self.socket.sendall(request_bytes(method, target, headers, body))
        return read_response(self.stream)

    def send(self, token, name="seen"):
        event = {"api_key": token, "event": name, "distinct_id": "ada"}
        return self.ask("POST", "/e/", json.dumps(event).encode()).status

    def close(self):
        self.stream.close()
        self.socket.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "penstock.toml"
    path.write_text(BEFORE)
    return path


@pytest.fixture
def server(start, file):
    return start(args=("--config", str(file)), flush_interval_seconds=0.1)


@pytest.fixture
def client(server):
    client = Client(server)
    yield client
    client.close()


def reload(server, said="reloaded"):
    """Send SIGHUP and wait until the log tells what came of it."""
    before = server.log().count(f"event={said}")
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while server.log().count(f"event={said}") == before:
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.01)


def test_tokens_come_and_go_while_a_connection_stays(server, client, file):
    assert [client.send(token) for token in ("phc_old", "phc_both", "phc_new")] == [200, 200, 401]
    file.write_text(AFTER)
    reload(server)
    # The same connection: nothing was dropped.
    assert [client.send(token) for token in ("phc_old", "phc_both", "phc_new")] == [401, 200, 200]
    assert client.ask("GET", "/array/phc_old/config").status == 404
    config = client.ask("GET", "/array/phc_new/config").json()
    assert config["autocapture_opt_out"] is True
    body = json.dumps({"token": "phc_old", "distinct_id": "ada"}).encode()
    assert client.ask("POST", "/flags/?v=2", body).status == 401


def test_what_was_stored_keeps_its_project(server, client, file):
    names = [f"{when} {uuid.uuid4()}" for when in ("before", "after")]
    assert client.send("phc_both", names[0]) == 200
    file.write_text(AFTER)
    reload(server)
    assert client.send("phc_both", names[1]) == 200
    rows = server.query("SELECT event, project FROM events")
    assert {row["event"]: row["project"] for row in rows} == {names[0]: "shop", names[1]: "store"}


def test_a_request_in_the_middle_of_its_body_goes_on(server, file):
    body = json.dumps({"api_key": "phc_new", "event": "e", "distinct_id": "ada"}).encode()
    message = request_bytes(
        "POST", "/e/", [("Host", "x"), ("Content-Length", str(len(body)))], body
    )
    with socket.create_connection(server.http, timeout=30) as connection:
        connection.sendall(message[:-5])
        file.write_text(AFTER)
        reload(server)
        connection.sendall(message[-5:])
        with connection.makefile("rb") as stream:
            assert read_response(stream).status == 200


@pytest.mark.parametrize(
    ("broken", "key"),
    [
        ("projects = ", "config"),
        (AFTER + 'tokens = ["x"]\n', "projects"),
        (AFTER + "[projects.none]\ntokens = []\n", "projects"),
        ("max_requestbytes = 1\n" + AFTER, "max_requestbytes"),
        ("max_wal_bytes = 4194304\n" + AFTER, "max_wal_bytes"),
        ('remote_config = { capture_endpoint = "/typo/" }\n' + AFTER, "remote_config"),
        (None, "config"),
    ],
)
def test_a_file_with_an_error_anywhere_changes_nothing(server, client, file, broken, key):
    file.unlink() if broken is None else file.write_text(broken)
    reload(server, "reload_failed")
    (line,) = [line for line in server.log().splitlines() if "event=reload_failed" in line]
    assert f"key={key}" in line
    assert [client.send(token) for token in ("phc_old", "phc_new")] == [200, 401]
    # Mended, it is taken.
    file.write_text(AFTER)
    reload(server)
    assert [client.send(token) for token in ("phc_old", "phc_new")] == [401, 200]


def test_what_needs_a_restart_is_named_and_stays(server, client, file):
    file.write_text("max_request_bytes = 10\n" + AFTER)
    reload(server)
    (line,) = [line for line in server.log().splitlines() if "event=setting_needs_restart" in line]
    assert "key=max_request_bytes" in line
    assert client.send("phc_new") == 200


def test_the_door_is_opened_by_naming_no_project(server, client, file):
    file.write_text("")
    reload(server)
    assert [client.send(token) for token in ("phc_old", "phc_any")] == [200, 200]


async def test_a_reload_is_for_grpc_too(server, file):
    file.write_text(AFTER)
    reload(server)
    async with AsyncIngestClient(server.grpc_target, "phc_new") as client:
        await client.append([{"event": "e", "distinct_id": "ada"}])
    async with AsyncIngestClient(server.grpc_target, "phc_old") as client:
        with pytest.raises(AppendError, match="UNAUTHENTICATED"):
            await client.append([{"event": "e", "distinct_id": "ada"}])
