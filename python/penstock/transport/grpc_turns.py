"""Turns at receiving a message, so that few are half-received at any moment (LIM-2)."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self


class TooManyWaitError(Exception):
    """There is no room to wait for a turn."""


class Turns:
    """Gives a limited number of turns: to one peer after the other, each in the order of its calls.

    So many wait at most; then the last of the peer with most of them is refused.

    A turn that takes long is harmless while nobody waits. While someone does, it ends after
    `patience_seconds`, with a `TimeoutError` in its holder. So peers that send slowly, or not at
    all, can't keep the others out: each has at most one turn before the next has one (SEC-1).

    Attributes:
        free: Turns that nobody has.
        ended_early: Turns that had to end early so far.
    """

    def __init__(
        self, count: int, *, max_waiting: int, patience_seconds: float, longest_seconds: float
    ) -> None:
        """Start with all turns free.

        Args:
            count: How many there are; at least 1.
            max_waiting: How many may wait for one.
            patience_seconds: What a turn may take, and one who waits has to, before it ends early.
            longest_seconds: Of any turn.
        """
        self.free = count
        self.ended_early = 0
        self._max_waiting = max_waiting
        self._waiting_count = 0
        self._patience_seconds = patience_seconds
        self._longest_seconds = longest_seconds
        # By peer, the next one first; none is empty.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._waited_for_since = 0.0
        # By age; a dict, since any of them may end first.
        self._taken: dict[Turn, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def turn(self, peer: str) -> Turn:
        """Give a turn to a call of `peer`, to be entered with `async with`."""
        return Turn(self, peer, self._longest_seconds)

    async def take(self, turn: Turn) -> None:
        """Wait until `turn` may begin.

        Raises:
            TooManyWaitError: Too many wait, most of them calls of the same peer.
        """
        if self.free:
            self.free -= 1
        else:
            await self._wait(turn.peer)
        turn.began = asyncio.get_running_loop().time()
        self._taken[turn] = None
        self._watch()

    def give_back(self, turn: Turn) -> None:
        """End `turn`: the next begins."""
        self._taken.pop(turn, None)
        self._pass_on()

    async def _wait(self, peer: str) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            self._waited_for_since = loop.time()
        self._waiting.setdefault(peer, deque()).append(waiter)
        self._waiting_count += 1
        if self._waiting_count > self._max_waiting:
            self._refuse_one()
        self._watch()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # It was given a turn, and was cancelled before it could know.
                self._pass_on()
            else:
                self._forget(peer, waiter)
            raise

    def _forget(self, peer: str, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiting.get(peer)
        # `_pass_on` may have met it in the same moment.
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            self._waiting_count -= 1
            if not waiters:
                del self._waiting[peer]

    def _refuse_one(self) -> None:
        peer = max(self._waiting, key=lambda each: len(self._waiting[each]))
        waiter = self._waiting[peer][-1]
        self._forget(peer, waiter)
        if not waiter.done():
            waiter.set_exception(TooManyWaitError)

    def _pass_on(self) -> None:
        while self._waiting:
            peer, waiters = next(iter(self._waiting.items()))
            waiter = waiters.popleft()
            self._waiting_count -= 1
            del self._waiting[peer]
            if waiters:
                # Behind all others.
                self._waiting[peer] = waiters
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1

    def _watch(self) -> None:
        """Set the clock for the oldest turn, if anyone waits for it."""
        if self._timer is not None or not self._waiting:
            return
        oldest = next((turn for turn in self._taken if not turn.told), None)
        if oldest is not None:
            since = max(oldest.began, self._waited_for_since)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(since + self._patience_seconds, self._end, oldest)

    def _end(self, turn: Turn) -> None:
        self._timer = None
        if self._waiting and turn in self._taken:
            self.ended_early += 1
            turn.end_early()
        self._watch()


class Turn:
    """One turn.

    Attributes:
        peer: Whose it is.
        began: Seconds of the loop's clock.
        told: Whether it was told to end early.
    """

    __slots__ = ("_deadline", "_turns", "began", "peer", "told")

    def __init__(self, turns: Turns, peer: str, longest_seconds: float) -> None:
        self._turns = turns
        self._deadline = asyncio.timeout(longest_seconds)
        self.peer = peer
        self.began = 0.0
        self.told = False

    def end_early(self) -> None:
        """Make the holder's waiting fail, unless it fails already."""
        self.told = True
        if not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> Self:
        await self._turns.take(self)
        await self._deadline.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._turns.give_back(self)
        await self._deadline.__aexit__(kind, error, traceback)
