"""Who the client is, behind proxies: the address that the N-th of them from here has seen.

What stands further left in a header is the client's own to write. What is no address leaves the
peer of the socket standing; nothing here refuses a request.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from penstock.transport.http_headers import FORWARDED, REAL_IP, STANDARD_FORWARDED

if TYPE_CHECKING:
    from collections.abc import Mapping

# The quotes and white space around a value of Forwarded.
_AROUND_VALUES: Final = b' \t"'


def client_of(said: Mapping[int, bytes], trusted_proxies: int, peer: str | None) -> str | None:
    """Find the client's address.

    The first header that is there decides, in this order: X-Forwarded-For, Forwarded (RFC 7239),
    X-Real-IP. A proxy passes on what it does not know, so a client that writes one of the later
    ones is not believed as long as the proxies write an earlier one.

    Args:
        said: The headers by kind; where one is repeated, its values joined by commas.
        trusted_proxies: The entries from the right that our own proxies wrote; at least 1.
        peer: The socket's peer, for a request that did not come through all of them.
    """
    if FORWARDED in said:
        node = _nth_from_the_right(said[FORWARDED], trusted_proxies)
    elif STANDARD_FORWARDED in said:
        node = _for_of(_nth_from_the_right(said[STANDARD_FORWARDED], trusted_proxies))
    else:
        # No list: each proxy that knows it overwrites it, or leaves that to the outermost.
        node = _nth_from_the_right(said.get(REAL_IP, b""), 1)
    return _address_of_node(node) or peer


def _nth_from_the_right(value: bytes, number: int) -> bytes:
    """Take one entry of a list; empty if there are fewer.

    Split at every comma, also within the quotes that Forwarded allows: a client may have left one
    open, and what our proxies write is to the right of it.
    """
    entries = value.split(b",")
    return entries[-number] if len(entries) >= number else b""


def _for_of(entry: bytes) -> bytes:
    for pair in entry.split(b";"):
        name, _, node = pair.partition(b"=")
        if name.strip().lower() == b"for":
            return node.strip(_AROUND_VALUES)
    return b""


def _address_of_node(node: bytes) -> str | None:
    """Read `v4`, `v4:port`, `v6`, `[v6]` or `[v6]:port`; None: it is no address."""
    text = node.strip().decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return plain_address(text)


def plain_address(text: str) -> str | None:
    """Write an address without zone, and IPv4 as such; None: it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
