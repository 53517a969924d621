"""The newest refused requests, for whoever asks why: nothing of them is stored.

Which SDK sends what can't be read is nowhere else. A sample has no payload and no token in it
(SEC-2), and counts nothing: the metrics do.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

# A screen or two, some 20 KB; a flood of refusals leaves the newest.
MAX_SAMPLES: Final = 100

# What a client may have us keep of itself: browsers have some 120 characters.
_MAX_AGENT_CHARACTERS: Final = 200
_MAX_WORDS_CHARACTERS: Final = 200


class Refused(NamedTuple):
    """One request."""

    date: str
    route: str
    status: int
    body_bytes: int
    user_agent: str
    words: str


class RefusedRequests:
    """A sample of them."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        self._newest: deque[Refused] = deque(maxlen=MAX_SAMPLES)

    def add(
        self,
        *,
        date: bytes,
        route: str,
        status: int,
        body_bytes: int,
        user_agent: bytes | None,
        words: bytes,
    ) -> None:
        """Add one.

        Args:
            date: The date header of its answer.
            route: Its label.
            status: Its answer's.
            body_bytes: What was taken of its body, as it came; 0 if it was refused by its head.
            user_agent: Its header.
            words: What its client was told.
        """
        agent = _printable(user_agent or b"-", _MAX_AGENT_CHARACTERS)
        told = _printable(words, _MAX_WORDS_CHARACTERS)
        when = date.decode().removeprefix("date: ").strip()
        self._newest.append(Refused(when, route, status, body_bytes, agent, told))

    def page(self) -> str:
        """Write them for people, the newest first."""
        lines = (
            f"{one.date}  {one.status}  /{one.route}  {one.body_bytes} bytes  "
            f"{one.user_agent}  {one.words}\n"
            for one in reversed(self._newest)
        )
        return "".join(lines) or "no request was refused since the start\n"


def _printable(text: bytes, max_characters: int) -> str:
    cut = text[:max_characters].decode("latin-1")
    return "".join(letter if letter.isascii() and letter.isprintable() else "." for letter in cut)
