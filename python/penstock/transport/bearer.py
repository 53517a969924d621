"""Tokens that stand beside a body: `Authorization: Bearer …`, by HTTP and by gRPC.

Capture v1 has its own in the core, which names what is missing in the protocol's order.
"""

from __future__ import annotations

from typing import Final

_SCHEME: Final = "bearer "


def bearer_token(authorization: str) -> str | None:
    """Take the token out of an `Authorization`; None: it is of another scheme, or empty."""
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip() or None
