"""Which headers matter, found without lower-casing a name twice."""

from typing import Final

# What a header is to us. Only the first must be false.
IGNORED: Final = 0
CONTENT_LENGTH: Final = 1
CONTENT_ENCODING: Final = 2
ORIGIN: Final = 3
EXPECT: Final = 4
FORWARDED: Final = 5
CONNECTION: Final = 6
REQUESTED_METHOD: Final = 7
REQUESTED_HEADERS: Final = 8
TRANSFER_ENCODING: Final = 9
IF_NONE_MATCH: Final = 10
STANDARD_FORWARDED: Final = 11
REAL_IP: Final = 12
# Kept for the routes that look at them alone: those of AI events, and of capture v1. These are the
# last.
AUTHORIZATION: Final = 13
SDK_INFO: Final = 14
ATTEMPT: Final = 15
REQUEST_ID: Final = 16
REQUEST_TIMESTAMP: Final = 17
CONTENT_TYPE: Final = 18
USER_AGENT: Final = 19

V1_HEADERS: Final = (
    AUTHORIZATION,
    SDK_INFO,
    ATTEMPT,
    REQUEST_ID,
    REQUEST_TIMESTAMP,
    CONTENT_TYPE,
    USER_AGENT,
)
"""In the order in which the core takes them."""

_KINDS: Final = {
    b"content-length": CONTENT_LENGTH,
    b"content-encoding": CONTENT_ENCODING,
    b"origin": ORIGIN,
    b"expect": EXPECT,
    b"x-forwarded-for": FORWARDED,
    b"forwarded": STANDARD_FORWARDED,
    b"x-real-ip": REAL_IP,
    b"connection": CONNECTION,
    b"access-control-request-method": REQUESTED_METHOD,
    b"access-control-request-headers": REQUESTED_HEADERS,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"if-none-match": IF_NONE_MATCH,
    b"authorization": AUTHORIZATION,
    b"posthog-sdk-info": SDK_INFO,
    b"posthog-attempt": ATTEMPT,
    b"posthog-request-id": REQUEST_ID,
    b"posthog-request-timestamp": REQUEST_TIMESTAMP,
    b"content-type": CONTENT_TYPE,
    b"user-agent": USER_AGENT,
}

# Bounds of `spellings`: names come from strangers. The real world has a few hundred.
_MAX_SPELLINGS: Final = 1024
_MAX_SPELLING_BYTES: Final = 64

spellings: Final[dict[bytes, int]] = {}
"""Names as they were sent so far, by any client, to what they are to us."""


def learn(name: bytes) -> int:
    """Find out what a header is to us whose spelling is new."""
    kind = _KINDS.get(name.lower(), IGNORED)
    if len(spellings) < _MAX_SPELLINGS and len(name) <= _MAX_SPELLING_BYTES:
        spellings[name] = kind
    return kind
