"""Turns: in order, limited, given back whatever happens, and not kept by the slow."""

import asyncio

import pytest

from penstock.transport.grpc_turns import TooManyWaitError, Turns


def turns_of(count, patience_seconds=60.0, longest_seconds=60.0, max_waiting=100):
    return Turns(
        count,
        max_waiting=max_waiting,
        patience_seconds=patience_seconds,
        longest_seconds=longest_seconds,
    )


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_turns_are_limited_and_taken_in_order():
    turns = turns_of(2)
    began, go = [], asyncio.Event()

    async def hold(number):
        async with turns.turn("peer"):
            began.append(number)
            await go.wait()

    holders = [asyncio.ensure_future(hold(number)) for number in range(5)]
    await settle()
    assert began == [0, 1]
    go.set()
    await asyncio.gather(*holders)
    assert began == [0, 1, 2, 3, 4]
    assert turns.free == 2


async def test_a_turn_is_given_back_by_whoever_fails():
    turns = turns_of(1)
    with pytest.raises(ZeroDivisionError):
        async with turns.turn("peer"):
            raise ZeroDivisionError
    assert turns.free == 1


@pytest.mark.parametrize("given", [False, True])
async def test_one_who_stops_waiting_loses_nobody_a_turn(given):
    # `given`: cancelled in the very moment between being given the turn and knowing of it.
    turns = turns_of(1)
    first = turns.turn("peer")
    await first.__aenter__()

    async def wait():
        async with turns.turn("peer"):
            raise AssertionError("was cancelled before")

    waiting = asyncio.ensure_future(wait())
    await settle()
    if given:
        await first.__aexit__(None, None, None)
    waiting.cancel()
    if not given:
        await first.__aexit__(None, None, None)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert turns.free == 1


async def test_those_who_stop_waiting_are_forgotten():
    # A peer may begin and cancel calls for as long as it likes.
    turns = turns_of(1)
    async with turns.turn("first"):
        for _ in range(3):
            waiting = asyncio.ensure_future(hold_turn(turns, 0, 0, []))
            await settle()
            assert len(turns._waiting["peer"]) == 1
            waiting.cancel()
            await settle()
            assert turns._waiting == {}


async def test_too_many_that_wait_cost_the_peer_with_most_of_them():
    # One that fills the queue must not keep another out of it.
    turns = turns_of(1, max_waiting=3)
    refused, began = [], []

    async def hold(peer, number):
        try:
            async with turns.turn(peer):
                began.append((peer, number))
        except TooManyWaitError:
            refused.append((peer, number))

    async with turns.turn("first"):
        calls = [asyncio.ensure_future(hold("a", number)) for number in range(4)]
        await settle()
        assert refused == [("a", 3)]
        calls.append(asyncio.ensure_future(hold("b", 0)))
        await settle()
        assert refused == [("a", 3), ("a", 2)]
    await asyncio.gather(*calls)
    assert began == [("a", 0), ("b", 0), ("a", 1)]
    assert turns.free == 1
    assert turns._waiting_count == 0


async def test_peers_have_turns_one_after_the_other():
    # A peer with many calls at once must not keep out one that has a single call.
    turns = turns_of(1)
    began = []

    async def hold(peer):
        async with turns.turn(peer):
            began.append(peer)
            await asyncio.sleep(0)

    await asyncio.gather(*(hold(peer) for peer in "aaaabbc"))
    assert began == ["a", "a", "b", "c", "a", "b", "a"]


async def hold_turn(turns, number, seconds, ended):
    try:
        async with turns.turn("peer"):
            await asyncio.sleep(seconds)
    except TimeoutError:
        ended.append(number)


async def test_the_oldest_gives_way_once_another_has_waited_long_enough():
    turns = turns_of(2, patience_seconds=0.02)
    ended: list[int] = []
    slow = [asyncio.ensure_future(hold_turn(turns, number, 60, ended)) for number in range(2)]
    await settle()
    await hold_turn(turns, 2, 0, ended)
    assert ended[0] == 0
    await hold_turn(turns, 3, 0, ended)
    slow[1].cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert turns.free == 2
    assert turns.ended_early == len(ended)


async def test_one_behind_many_that_never_end_still_has_a_turn():
    # Each of them has to give way, not only the one that was first.
    turns = turns_of(1, patience_seconds=0.005)
    ended: list[int] = []
    waiting = [asyncio.ensure_future(hold_turn(turns, number, 60, ended)) for number in range(20)]
    await settle()
    async with asyncio.timeout(10):
        await hold_turn(turns, 20, 0, ended)
    assert ended == list(range(20))
    await asyncio.gather(*waiting)
    assert turns.free == 1


async def test_the_slow_are_left_alone_while_nobody_waits():
    turns = turns_of(1, patience_seconds=0.001)
    async with turns.turn("peer"):
        await asyncio.sleep(0.05)
    assert turns.ended_early == 0


async def test_no_turn_is_longer_than_the_longest():
    turns = turns_of(1, longest_seconds=0.01)
    with pytest.raises(TimeoutError):
        async with turns.turn("peer"):
            await asyncio.sleep(60)
    assert turns.free == 1
