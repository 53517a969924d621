"""Which path and method leads where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.transport import http_ai

if TYPE_CHECKING:
    from penstock.posthog.calls import Call

CAPTURE_METHODS: Final = b"GET, HEAD, POST, OPTIONS"
POST_METHODS: Final = b"POST, OPTIONS"
PAGE_METHODS: Final = b"GET, HEAD, OPTIONS"

# Of the older protocol of capture all are read alike: the payload is in the query or in the body
# (`posthog-protocol.md` §1.2).
_TAKEN_BY_CAPTURE: Final = frozenset({b"POST", b"GET", b"HEAD"})
_ONLY_POST: Final = frozenset({b"POST"})


class Page(NamedTuple):
    """An answer that needs no core."""

    status: int
    content_type: bytes
    body: bytes


class Route:
    """One path.

    Attributes:
        name: Label in metrics, from a closed set.
        of_recordings: Whether it takes session replay, which is told who sends it.
        endpoint: Number that the core knows a capture route by; 0: a page.
        page: Makes the answer to GET; None on other routes.
        ai: Whether it takes AI events as forms or spans.
        v1: Whether it speaks capture v1.
        max_body_bytes: Body on the wire; 0 until its listener sets what it takes by default.
        call: What an SDK calls besides capture; such a route is made for one request.
        allow: The methods that it takes, as they are told.
        taken: The methods whose requests go to the core.
        stored: Requests answered with the plain success; counted here because it is per request.
    """

    __slots__ = (
        "ai",
        "allow",
        "call",
        "endpoint",
        "max_body_bytes",
        "name",
        "of_recordings",
        "page",
        "stored",
        "taken",
        "v1",
    )

    def __init__(
        self,
        name: str,
        *,
        endpoint: int = 0,
        ai: bool = False,
        v1: bool = False,
        page: Callable[[], Page] | None = None,
        max_body_bytes: int = 0,
        call: Call | None = None,
    ) -> None:
        self.name = name
        self.of_recordings = name == RECORDINGS
        self.endpoint = endpoint
        self.ai = ai
        self.v1 = v1
        self.page = page
        self.max_body_bytes = max_body_bytes
        self.call = call
        self.allow = CAPTURE_METHODS if endpoint else PAGE_METHODS
        self.taken = _TAKEN_BY_CAPTURE
        if call is not None:
            self.allow = b", ".join(call.methods)
        elif ai or v1:
            self.allow = POST_METHODS
            self.taken = _ONLY_POST
        self.stored = 0


UNKNOWN: Final = "unknown"
RECORDINGS: Final = "s"

CAPTURE_ENDPOINTS: Final = (
    "batch",
    "e",
    "i/v0/e",
    "capture",
    "track",
    "engage",
    "i/v0/ai/batch",
    RECORDINGS,
    "i/v1/analytics/events",
    "i/v1/ai/events",
)
"""Endpoints of the core that are HTTP paths: with and without final slash, never redirected."""


def capture_routes(
    endpoints: Iterable[tuple[str, int]], max_body_bytes: Mapping[str, int]
) -> dict[bytes, Route]:
    """Make the capture routes by raw path.

    Args:
        endpoints: `_core.endpoints()`.
        max_body_bytes: Of the endpoints that take other bodies than the listener by default.
    """
    table: dict[bytes, Route] = {}
    for name, number in endpoints:
        if name in CAPTURE_ENDPOINTS:
            route = Route(
                name,
                endpoint=number,
                v1=name.startswith("i/v1/"),
                max_body_bytes=max_body_bytes.get(name, 0),
            )
            # An empty query is common enough to be found without looking for its mark.
            for ending in (b"", b"/", b"?", b"/?"):
                table[b"/" + name.encode() + ending] = route
    return table


def ai_routes(endpoints: Iterable[tuple[str, int]]) -> dict[bytes, Route]:
    """Make the routes of AI events that are no capture's by raw path.

    Args:
        endpoints: `_core.endpoints()`.
    """
    table: dict[bytes, Route] = {}
    for name, number in endpoints:
        maximum = http_ai.MAX_BODY_BYTES.get(name, 0)
        route = Route(name, endpoint=number, ai=True, max_body_bytes=maximum)
        for path in http_ai.PATHS.get(name, ()):
            for ending in (b"", b"/", b"?", b"/?"):
                table[b"/" + path.encode() + ending] = route
    return table


def mounted(routes: Mapping[bytes, Route], prefixes: Iterable[str]) -> dict[bytes, Route]:
    """Add every route under each prefix, as reverse proxies that keep their path send it.

    Args:
        routes: By raw path.
        prefixes: Each with a slash at its start and none at its end.
    """
    table: dict[bytes, Route] = {}
    for prefix in prefixes:
        table |= {prefix.encode() + path: route for path, route in routes.items()}
    # What has a meaning without a prefix keeps it.
    return table | dict(routes)


def page_routes(pages: Iterable[tuple[str, Callable[[], Page]]]) -> dict[bytes, Route]:
    """Make routes of pages by raw path."""
    table: dict[bytes, Route] = {}
    for path, page in pages:
        route = Route(path.strip("/") or "root", page=page)
        table[path.encode()] = route
        if path != "/":
            table[path.encode() + b"/"] = route
    return table
