"""The façade: delivery, futures, errors, fork."""

import asyncio
import logging
import os

import pytest

from penstock.engine import Engine
from penstock.errors import InternalError, OverloadedError, RejectedError
from support.fake_core import FakeCore, FakeRefusal, FakeResult


@pytest.fixture
async def engine():
    opened = Engine(FakeCore(answer_at_once=True))
    opened.start_notifications(asyncio.get_running_loop())
    yield opened
    opened.close()


async def test_a_future_gets_the_result_by_the_completion_descriptor(engine):
    result = await engine.submit(b"{}", endpoint=1, coding=2, client_address="192.0.2.1")
    assert result.accepted == 1
    assert engine.core.submitted[0].coding == 2


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (FakeRefusal("overloaded", "busy", 4), OverloadedError),
        (FakeRefusal("invalid_json", "bad"), RejectedError),
    ],
)
async def test_refusals_are_raised_by_kind(engine, refusal, error):
    engine.core.refusal = refusal
    with pytest.raises(error) as caught:
        await engine.submit(b"{}", endpoint=1)
    assert caught.value.code == refusal.code
    assert caught.value.retryable is (error is OverloadedError)


async def test_a_late_refusal_is_raised_too(engine):
    engine.core.answer_at_once = False
    waiting = asyncio.ensure_future(engine.submit(b"{}", endpoint=1))
    await asyncio.sleep(0)
    engine.core.finish_all(FakeRefusal("storage_failed", "text", 1))
    with pytest.raises(OverloadedError) as caught:
        await waiting
    assert caught.value.retry_after_seconds == 1


async def test_append_gives_the_serialized_response(engine):
    engine.core.answer_at_once = False
    waiting = asyncio.ensure_future(
        engine.append(b"message", metadata_token=None, client_address=None)
    )
    await asyncio.sleep(0)
    engine.core.finish_all(b"response")
    assert await waiting == b"response"


async def test_a_cancelled_caller_does_not_disturb_delivery(engine):
    engine.core.answer_at_once = False
    waiting = asyncio.ensure_future(engine.submit(b"{}", endpoint=1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    engine.core.finish_all()
    engine.deliver()


def test_a_ticket_that_raises_is_logged_and_the_others_are_delivered(caplog):
    core = FakeCore()
    engine = Engine(core)
    delivered: list[FakeResult] = []
    core.finish(lambda _: 1 / 0)
    core.finish(delivered.append)
    with caplog.at_level(logging.ERROR, "penstock"):
        engine.deliver()
    assert delivered == [FakeResult()]
    assert "ticket_failed" in caplog.text


@pytest.mark.parametrize(
    ("state", "accepts"),
    [
        (("ready", ""), True),
        (("starting", ""), False),
        (("draining", ""), False),
        (("failed", "storage_failed"), False),
        (("degraded", "storage_failed"), False),
        (("degraded", "table_behind_note"), True),
    ],
)
def test_would_accept_follows_the_state(state, accepts):
    assert Engine(FakeCore(current_state=state)).would_accept() is accepts


def test_close_is_idempotent():
    core = FakeCore()
    engine = Engine(core)
    engine.close()
    engine.close()
    assert core.calls == ["close"]


def test_a_forked_child_may_not_use_the_engine(monkeypatch):
    core = FakeCore()
    engine = Engine(core)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(InternalError, match="before a fork"):
        engine.flush()
    with pytest.raises(InternalError, match="before a fork"):
        engine.submit_http(lambda _: None, b"{}", 1, 0, None, None)
    assert core.submitted == []
    engine.close()
    assert core.calls == []
