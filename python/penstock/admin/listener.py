"""The admin listener: the same connections as the HTTP front, other routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.transport.http import HttpFront
from penstock.transport.http_limits import HttpLimits
from penstock.transport.http_routes import page_routes

if TYPE_CHECKING:
    from penstock.admin.pages import AdminPages

# Scrapers and probes; a few dozen at most. None of them sends a body.
MAX_ADMIN_CONNECTIONS: Final = 256
MAX_ADMIN_REQUEST_BYTES: Final = 64 << 10


def admin_front(pages: AdminPages) -> HttpFront:
    """Make the admin listener. It answers during a drain too, so nothing of it is refused then."""
    limits = HttpLimits(
        max_request_bytes=MAX_ADMIN_REQUEST_BYTES, max_connections=MAX_ADMIN_CONNECTIONS
    )
    routes = page_routes(
        (
            ("/", pages.status),
            ("/healthz", pages.healthz),
            ("/readyz", pages.readyz),
            ("/metrics", pages.metrics),
            ("/refused", pages.refused),
        )
    )
    return HttpFront("admin", routes=routes, limits=limits)
