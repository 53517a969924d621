"""The process: exit codes, signals, what survives them."""

import ctypes
import json
import os
import platform
import shutil
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import grpc
import pytest

from penstock import scheduling
from penstock._pb.penstock.v1 import ingest_pb2 as pb
from penstock.transport.grpc import METHOD
from support.command import run_penstock
from support.server import clean_environment

pytestmark = pytest.mark.service

LISTENERS = ("http", "grpc", "admin")
EVENT = {"api_key": "phc_life", "event": "lived", "distinct_id": "ada"}


def penstock(*arguments, **settings):
    """Run a command that is expected to end by itself."""
    return run_penstock(*arguments, environment=clean_environment(**settings))


def test_a_clean_stop_is_exit_0_and_leaves_everything_in_the_table(start):
    server = start(flush_interval_seconds=3600)
    assert server.post_json("/e", EVENT).status == 200
    assert server.stop() == 0
    assert "event=drained" in server.log()
    assert server.query("SELECT count(*) AS n FROM events") == [{"n": 1}]


def test_with_time_to_spare_loop_and_log_interrupt_and_writing_the_tables_is_interrupted(start):
    server = start()
    assert server.post_json("/e", EVENT).status == 200
    by_policy: dict[int, set[str]] = {}
    for thread in Path(f"/proc/{server.pid}/task").iterdir():
        is_loop = int(thread.name) == server.pid
        name = "loop" if is_loop else (thread / "comm").read_text().strip()
        policy = os.sched_getscheduler(int(thread.name))
        by_policy.setdefault(policy, set()).add(name)
        if policy == os.SCHED_OTHER:
            assert not slices_can_be_set() or slice_nanos(int(thread.name)) == 100_000
    assert by_policy.pop(os.SCHED_OTHER) == {"loop", "penstock-log"}
    assert "penstock-seal" in by_policy.pop(os.SCHED_BATCH)
    # What nobody may leave again, nobody has.
    may_be_left = scheduling._idle_can_be_left()
    yielding = by_policy.pop(os.SCHED_IDLE, set())
    assert ("penstock-build" in yielding) == may_be_left
    assert yielding <= {"penstock-build", "tokio-rt-worker"}
    assert not by_policy


def slices_can_be_set():
    version = tuple(int(part) for part in platform.release().split(".")[:2])
    return version >= (6, 12) and platform.machine() == "x86_64"


def slice_nanos(thread):
    attributes = ctypes.create_string_buffer(48)
    sched_getattr = ctypes.c_long(315)
    libc = ctypes.CDLL(None)
    assert libc.syscall(sched_getattr, thread, attributes, len(attributes), 0) == 0
    # size, policy, flags, nice, priority, and then the slice.
    return struct.unpack_from("=Q", attributes, 24)[0]


def test_the_service_asks_for_no_huge_pages(start):
    # LIM-2: they hold memory that nobody counts.
    status = Path(f"/proc/{start().pid}/status").read_text()
    assert "THP_enabled:\t0\n" in status


def test_what_was_answered_is_there_after_a_restart(start):
    first = start()
    assert first.post_json("/e", EVENT).status == 200
    first.kill()
    second = start()
    assert second.query("SELECT event FROM events") == [{"event": "lived"}]


def test_a_port_in_use_is_exit_1_and_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for listener in LISTENERS:
            others = dict.fromkeys(LISTENERS, "127.0.0.1:0")
            ended = penstock("serve", data_dir=tmp_path / "data", **(others | {listener: address}))
            assert ended.returncode == 1
            assert address in ended.stderr


def test_a_data_directory_in_use_is_exit_3(start):
    server = start()
    others = dict.fromkeys(LISTENERS, "127.0.0.1:0")
    ended = penstock("serve", data_dir=server.data_dir, **others)
    assert ended.returncode == 3
    assert "in use" in ended.stderr


def test_a_data_directory_that_is_a_file_is_exit_3(tmp_path):
    (tmp_path / "data").write_text("not a directory")
    ended = penstock("serve", data_dir=tmp_path / "data", http="127.0.0.1:0")
    assert ended.returncode == 3


def test_bad_configuration_is_exit_2_and_names_the_key():
    ended = penstock("serve", max_json_depth=0)
    assert ended.returncode == 2
    assert "max_json_depth (environment PENSTOCK_MAX_JSON_DEPTH)" in ended.stderr


def test_version_names_profile_and_features():
    ended = penstock("--version")
    assert ended.returncode == 0
    assert "profile: " in ended.stdout
    assert "features: " in ended.stdout


def test_ready_line_and_logs_hold_no_token_and_no_payload(start):
    server = start(log_level="debug", log_format="json")
    secret = {"api_key": "phc_very_secret", "event": "private event", "distinct_id": "mallory"}
    assert server.post_json("/e", secret).status == 200
    assert server.request("POST", "/e", body=b'{"api_key":"phc_very_secret"').status == 400
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    (ready,) = [line for line in lines if line["event"] == "ready"]
    assert ready["http"] == f"127.0.0.1:{server.http[1]}"
    for secret_text in ("phc_very_secret", "private event", "mallory"):
        assert secret_text not in server.log()


def test_sigint_stops_as_sigterm_does(start):
    server = start()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(40) == 0


def test_load_during_a_stop_is_answered_or_told_to_come_back(start):
    # A closed port would make several SDKs lose the batch, so none may be seen before the end.
    server = start()
    statuses = []
    logs_at_the_end = []

    def send():
        try:
            while True:
                response = server.post_json("/e", EVENT)
                statuses.append((response.status, response.header("retry-after")))
        except ConnectionError:
            logs_at_the_end.append(server.log())

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    while len(statuses) < 20:
        senders[0].join(0.01)
    assert server.stop() == 0
    for sender in senders:
        sender.join()
    assert set(statuses) == {(200, None), (503, "2")}
    # The log was closed by then: nothing but the exit was left.
    assert all("event=drained" in log for log in logs_at_the_end)
    assert all("event=closed" in log for log in logs_at_the_end)
    rows = server.query("SELECT count(*) AS n FROM events")
    assert rows[0]["n"] >= statuses.count((200, None))


def test_a_second_signal_is_exit_1_at_once_and_loses_nothing(start):
    server = start(flush_interval_seconds=3600, drain_timeout_seconds=600)
    assert server.post_json("/e", EVENT).status == 200
    # A commit that can't be made keeps the drain from ending.
    shutil.rmtree(server.data_dir / "events" / "_delta_log")
    server.process.send_signal(signal.SIGTERM)
    while "event=draining" not in server.log():
        assert server.process.poll() is None
        threading.Event().wait(0.02)
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 1
    assert "event=stopped_at_once signal=SIGINT" in server.log()


def test_a_stop_ends_in_time_also_if_the_table_cannot_be_reached(start):
    server = start(flush_interval_seconds=3600, drain_timeout_seconds=3)
    assert server.post_json("/e", EVENT).status == 200
    shutil.rmtree(server.data_dir / "events" / "_delta_log")
    began = time.monotonic()
    assert server.stop() == 0
    # What is over the drain timeout is the interpreter's own end.
    assert time.monotonic() - began < 5
    assert "event=drain_incomplete" in server.log()


def test_health_says_that_commits_are_held(start):
    first = start(flush_interval_seconds=3600)
    assert first.post_json("/e", EVENT).status == 200
    assert first.stop() == 0
    shutil.rmtree(first.data_dir / "events")
    second = start(flush_interval_seconds=3600)
    health = second.get_admin("/healthz")
    assert health.status == 200
    assert b"commits held: " in health.body
    metrics = second.get_admin("/metrics").body.decode()
    assert "penstock_table_commits_held 1" in metrics
    assert second.post_json("/e", EVENT).status == 200


def test_it_serves_ipv6(start):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    flags = [part for listener in LISTENERS for part in (f"--{listener}", "[::1]:0")]
    server = start(args=tuple(flags))
    assert server.http[0] == server.grpc[0] == server.admin[0] == "::1"
    assert server.post_json("/e", EVENT).status == 200
    assert server.get_admin("/readyz").status == 200
    with grpc.insecure_channel(server.grpc_target) as channel:
        request = pb.AppendRequest(body=json.dumps(EVENT).encode()).SerializeToString()
        answer = channel.unary_unary(METHOD)(request, timeout=30)
    assert pb.AppendResponse.FromString(answer).accepted == 1
    assert server.query("SELECT DISTINCT ip FROM events") == [{"ip": "::1"}]


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_ready_file_in_no_folder_is_exit_2_before_anything_is_opened(tmp_path):
    ready_file = tmp_path / "missing" / "ready.json"
    ended = penstock("serve", data_dir=tmp_path / "data", ready_file=ready_file)
    assert ended.returncode == 2
    assert f"ready_file ({ready_file})" in ended.stderr
    assert not (tmp_path / "data").exists()
