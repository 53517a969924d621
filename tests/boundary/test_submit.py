"""`submit_http` and `drain`: what goes in, what comes out, and who holds the bytes meanwhile."""

import gzip
import sys
from typing import Any

import pytest

from penstock import _core
from support.core import EVENT, OpenedEngine, OpenEngine, batch

IDENTIFIED = EVENT | {"uuid": "0192f0c1-2345-7abc-8def-0123456789ab"}


@pytest.mark.parametrize("kind", [bytearray, memoryview, list, lambda body: body.decode()])
def test_only_bytes_are_taken(engine: OpenedEngine, kind: Any) -> None:
    # Someone else could change a bytearray while the GIL is released.
    with pytest.raises(TypeError):
        engine.core.submit_http("ticket", kind(batch(EVENT)), 1, 0, None, None)
    with pytest.raises(TypeError):
        engine.core.submit_append("ticket", kind(b""), None, None)
    with pytest.raises(TypeError):
        _core.decode_for_bench(kind(batch(EVENT)), 1, 0)
    assert engine.core.in_flight == 0
    assert engine.core.drain() == []


def test_accepted_request_comes_back_once_with_its_own_ticket(engine: OpenedEngine) -> None:
    ticket = object()
    assert engine.core.submit_http(ticket, batch(EVENT, EVENT), 1, 0, None, None) is None

    ((returned, result),) = engine.finished(1)

    assert returned is ticket
    assert (result.accepted, result.duplicates, result.rejected) == (2, 0, 0)
    assert result.first_rejection is None
    assert engine.core.drain() == []
    assert engine.core.in_flight == 0


def test_each_of_many_requests_comes_back_exactly_once(engine: OpenedEngine) -> None:
    count = 300
    for number in range(count):
        assert engine.core.submit_http(number, batch(EVENT), 1, 0, None, None) is None

    finished = engine.finished(count)

    assert {ticket for ticket, _ in finished} == set(range(count))
    assert len(finished) == count
    positions = [result.log_position for _, result in finished]
    assert len(set(positions)) == count


def test_gzip_body_is_read_by_its_magic(engine: OpenedEngine) -> None:
    assert engine.submit(gzip.compress(batch(EVENT))).accepted == 1


def test_refused_event_is_told_by_index_and_code_and_its_neighbours_are_taken(
    engine: OpenedEngine,
) -> None:
    result = engine.submit(batch(EVENT, {"distinct_id": "ada"}, EVENT))
    assert (result.accepted, result.rejected) == (2, 1)
    index, code, text = result.first_rejection
    assert (index, code) == (1, "missing_event_name")
    assert text


def test_event_sent_again_is_a_duplicate_and_not_accepted(engine: OpenedEngine) -> None:
    assert engine.submit(batch(IDENTIFIED)).accepted == 1
    again = engine.submit(batch(IDENTIFIED))
    assert (again.accepted, again.duplicates) == (0, 1)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "missing_payload"),
        (b'{"batch":', "invalid_json"),
        (b"\x1f\x8b\x08\x00 not gzip", "invalid_gzip"),
        # Given but empty, not missing: "API key is not valid: empty".
        (batch(EVENT, token=""), "invalid_token"),
        (b'{"batch":[{"event":"a","distinct_id":"b"}]}', "missing_token"),
        (b"[]", "no_events"),
    ],
)
def test_unreadable_request_is_refused_for_good(
    engine: OpenedEngine, body: bytes, code: str
) -> None:
    refusal = engine.submit(body)
    assert isinstance(refusal, _core.Refusal)
    assert refusal.code == code
    assert refusal.retry_after_seconds == 0
    public = {name: text for name, _, text in _core.codes()}[code]
    assert refusal.text.startswith(public)


def test_request_before_start_is_to_be_sent_again(open_engine: OpenEngine) -> None:
    refusal = open_engine(start=False).submit(batch(EVENT))
    assert refusal.code == "starting"
    assert 1 <= refusal.retry_after_seconds <= 10


def test_request_after_drain_began_is_to_be_sent_again(engine: OpenedEngine) -> None:
    assert engine.submit(batch(EVENT)).accepted == 1
    engine.core.drain_and_stop_admission()
    refusal = engine.submit(batch(EVENT))
    assert refusal.code == "shutting_down"
    assert refusal.retry_after_seconds == 2
    assert engine.core.state()[0] == "draining"


def test_requests_in_flight_when_drain_begins_are_still_answered(engine: OpenedEngine) -> None:
    for number in range(50):
        assert engine.core.submit_http(number, batch(EVENT), 1, 0, None, None) is None
    engine.core.drain_and_stop_admission()
    assert all(result.accepted == 1 for _, result in engine.finished(50))


def test_unknown_endpoint_or_coding_is_an_error_of_the_caller(engine: OpenedEngine) -> None:
    with pytest.raises((ValueError, _core.CoreError)):
        engine.core.submit_http("ticket", batch(EVENT), 250, 0, None, None)
    with pytest.raises((ValueError, _core.CoreError)):
        engine.core.submit_http("ticket", batch(EVENT), 1, 9, None, None)


def test_results_cannot_be_changed(engine: OpenedEngine) -> None:
    with pytest.raises(AttributeError):
        engine.submit(batch(EVENT)).accepted = 7
    with pytest.raises(AttributeError):
        engine.submit(b"").code = "fine"


def test_no_reference_to_a_body_or_ticket_is_kept_after_close(engine: OpenedEngine) -> None:
    body, ticket = batch(EVENT), object()
    before = sys.getrefcount(body), sys.getrefcount(ticket)
    assert engine.core.submit_http(ticket, body, 1, 0, None, None) is None
    engine.finished(1)
    engine.core.drain_and_stop_admission()
    engine.core.close()
    engine.core.drain()
    assert (sys.getrefcount(body), sys.getrefcount(ticket)) == before
