"""What is told of refused requests."""

from penstock.transport.http_refused import MAX_SAMPLES
from support.fake_core import FakeRefusal, FakeResult
from unit.transport.harness import Connection, post

WORDS = "failed to decode request: invalid GZIP data: the body is cut short or damaged"


def told(connection):
    return connection.front.refused.page().splitlines()


def test_a_refused_request_is_told_with_who_sent_it_and_without_its_payload():
    connection = Connection()
    assert told(connection) == ["no request was refused since the start"]
    connection.send(
        post("/e/?token=phc_secret", b"s3cret!", ["User-Agent: posthog-web/1.449é"]),
        post("/batch/", b"{}"),
    )
    # What is stored is nobody's business here.
    connection.core.finish(connection.core.submitted[1].ticket, FakeResult())
    connection.core.finish(connection.core.submitted[0].ticket, FakeRefusal("invalid_gzip", WORDS))
    connection.engine.deliver()
    (line,) = told(connection)
    date = connection.front.date.decode().removeprefix("date: ").strip()
    assert line == f"{date}  400  /e  7 bytes  posthog-web/1.449..  {WORDS}"
    assert "s3cret" not in line


def test_what_is_refused_by_its_head_is_told_too_and_what_is_no_capture_is_not():
    connection = Connection(max_request_bytes=10)
    connection.send(post("/batch/", b"x" * 11), post("/nowhere", b""))
    assert [answer[0] for answer in connection.answers()] == [413, 404]
    (line,) = told(connection)
    assert "  413  /batch  0 bytes  -  maximum event size exceeded" in line


def test_the_newest_are_kept_and_stand_first():
    connection = Connection(core=None)
    connection.core.refusal = FakeRefusal("overloaded", "later", 1)
    for number in range(MAX_SAMPLES + 5):
        connection.send(post("/e/", b"{}", [f"User-Agent: agent-{number}"]))
    lines = told(connection)
    assert len(lines) == MAX_SAMPLES
    assert f"agent-{MAX_SAMPLES + 4} " in lines[0]
    assert "agent-5 " in lines[-1]
    assert len("".join(lines)) < 64_000


def test_a_long_agent_is_cut():
    connection = Connection()
    connection.core.refusal = FakeRefusal("overloaded", "later", 1)
    connection.send(post("/e/", b"{}", ["User-Agent: " + "x" * 10_000]))
    (line,) = told(connection)
    assert len(line) < 300
