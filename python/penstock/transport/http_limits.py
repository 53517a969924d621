"""Every limit of the HTTP front, with its reason (LIM-1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock.config import Settings

# Names and values of all headers. SDKs send under 1 KiB; cookies of a shared domain come to 16 KiB,
# tracing vendors add some. Node's and nginx's defaults are 16 and 32 KiB.
MAX_HEADER_BYTES: Final = 64 << 10

# Twice what browsers send. Each costs a call, so that small ones are bounded apart from bytes.
MAX_HEADERS: Final = 200

# With an event in it (`?data=`), as old web SDKs and images send them. What PostHog's own server
# takes; proxies in front often stop at 8 KiB. Without one, SDKs build less than 500 bytes.
MAX_URL_BYTES: Final = 64 << 10

# All of an unfinished head, with what separates its parts: it stays in the parser until it ends.
# Also what may follow a body without being one: trailers of a chunked body stay there too.
MAX_HEAD_BYTES: Final = MAX_HEADER_BYTES + MAX_URL_BYTES + 4 * MAX_HEADERS

# Values of headers that answers mirror (CORS). Origins are under 300 bytes; a longer one is no
# origin of a browser, and would be kept once for each answer that waits.
MAX_MIRRORED_BYTES: Final = 1 << 10

# The end of X-Forwarded-For, where our own proxies write: 32 of them at 48 bytes, and room.
MAX_FORWARDED_BYTES: Final = 4 << 10

# Requests of one connection that wait for their answers; past it nothing more is read from it. One
# read of 256 KiB may go above it by what it holds. A commit group rarely takes longer than 20 ms,
# so 128 do not slow down a client that pipelines.
MAX_PIPELINED_REQUESTS: Final = 128

# Bodies of one connection that wait for their answers, and answers for their turn. One that is
# larger waits alone.
MAX_PIPELINED_BYTES: Final = 4 << 20

# What the transport reads at once: the size that uvloop reads by itself. One for each listener.
READ_BYTES: Final = 256 << 10

# Pieces of a body from this size on are kept as they came and joined once; an object's own 40 bytes
# are nothing to them.
LARGE_PIECE_BYTES: Final = 4 << 10

# Read and thrown away of a body that is over the limit, beyond the limit, so that a client which
# reads no answer before it has sent everything gets to see the 413.
MAX_DISCARDED_BYTES: Final = 16 << 20

# Connections above `max_connections` that are told so; any further are closed without a word.
MAX_REFUSED_CONNECTIONS: Final = 256

# After an answer that ends a connection whose client still sends: long enough for the answer to be
# read, since closing at once would make the kernel drop it (RST).
LINGER_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Limits of one listener.

    Attributes:
        max_request_bytes: Body on the wire.
        max_recording_bytes: The same of an upload of session replay.
        max_receiving_bytes: Parts of unfinished requests over all connections; past it 503. The
            core's own budget starts when a body is whole.
        max_connections: Open connections; past it 503 and close.
        trusted_proxies: Entries of X-Forwarded-For, from the right, that proxies of ours wrote.
        header_timeout_seconds: From a request's first byte to the end of its headers. Slow clients
            on bad networks need 2 s; those that need longer hold connections on purpose.
        body_idle_timeout_seconds: Between two reads of a body; mobile networks pause for 10 s.
        body_timeout_seconds: For a whole body: 20 MiB at 70 kB/s. Without it a byte now and then
            would keep memory for ever.
        keep_alive_timeout_seconds: Idle between requests; above the 60 s of common load balancers,
            so that they, not we, close first and lose no request.
        write_timeout_seconds: How long a client may leave its answers unread.
        file_timeout_seconds: For a whole file: 3 MB, the largest of posthog-js, at 10 kB/s.
        tick_seconds: How often timeouts are looked at, for all connections at once.
    """

    max_request_bytes: int = 20 << 20
    max_recording_bytes: int = 28 << 20
    max_receiving_bytes: int = 128 << 20
    max_connections: int = 10_000
    trusted_proxies: int = 0
    header_timeout_seconds: float = 10.0
    body_idle_timeout_seconds: float = 30.0
    body_timeout_seconds: float = 300.0
    keep_alive_timeout_seconds: float = 90.0
    write_timeout_seconds: float = 30.0
    file_timeout_seconds: float = 300.0
    tick_seconds: float = 0.5

    @classmethod
    def of(cls, settings: Settings) -> HttpLimits:
        """Take from the settings what they decide."""
        return cls(
            max_request_bytes=settings.max_request_bytes,
            max_recording_bytes=settings.max_recording_bytes,
            max_receiving_bytes=settings.max_in_flight_bytes,
            max_connections=settings.max_connections,
            trusted_proxies=settings.trusted_proxies,
        )
