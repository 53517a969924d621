"""What is decided by method and path alone, before a body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.transport.http_call import verdict_of_call
from penstock.transport.http_request import STORED, HttpRequest, Verdict, refused_here

if TYPE_CHECKING:
    from penstock.transport.http import HttpFront

_NOT_FOUND: Final = Verdict(404, b"no such path")


def verdict_of_head(
    front: HttpFront,
    request: HttpRequest,
    method: bytes,
    *,
    asterisk: bool,
    content_length: int = -1,
) -> Verdict | None:
    """Answer a request by its method and route; None: it is answered once it is whole.

    Args:
        front: The listener.
        request: Its route decides.
        method: As sent.
        asterisk: Whether the URL is `*`, which only OPTIONS may ask about.
        content_length: As told; -1: it is not.
    """
    route = request.route
    if method == b"CONNECT":
        # What would follow is not HTTP.
        request.need_facts().close = True
        return Verdict(405, b"method is not allowed", allow=route.allow)
    facts = request.facts
    # A preflight that fails makes a browser see no status at all and try again; the request that
    # follows it is told 404.
    preflight = facts is not None and facts.preflight
    if route is front.unknown and not (method == b"OPTIONS" and (asterisk or preflight)):
        return _NOT_FOUND
    if method == b"OPTIONS":
        status = 200 if route.call is None else route.call.options_status
        return STORED._replace(status=status, allow=route.allow)
    if not route.endpoint:
        return _page_verdict(request, method, content_length)
    if method not in route.taken:
        return Verdict(405, b"method is not allowed: use POST", allow=route.allow)
    return refused_here("shutting_down", "", 2) if front.draining else None


def _page_verdict(request: HttpRequest, method: bytes, content_length: int) -> Verdict | None:
    route = request.route
    if route.call is not None:
        return verdict_of_call(route.call, method, content_length)
    if method not in {b"GET", b"HEAD"} or route.page is None:
        return Verdict(405, b"method is not allowed: use GET", allow=route.allow)
    page = route.page()
    return Verdict(page.status, page.body, page.content_type)
