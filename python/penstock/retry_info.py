"""The status details of a gRPC error: a `google.rpc.Status` with a `google.rpc.RetryInfo` in it.

Both messages are a few bytes, so they are put together here instead of by a package of Google's
whole API. Layout (protobuf): `Status { int32 code = 1; string message = 2; repeated Any details =
3 }`, `RetryInfo { Duration retry_delay = 1 }`; `Any` and `Duration` come with protobuf itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

DETAILS_KEY: Final = "grpc-status-details-bin"
RETRY_INFO_TYPE: Final = "type.googleapis.com/google.rpc.RetryInfo"

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5


def status_with_retry(code: int, message: str, retry_after_seconds: float) -> bytes:
    """Serialize the details that tell a client when to send again.

    Args:
        code: Number of the gRPC status.
        message: The text of the status.
        retry_after_seconds: The delay.
    """
    delay = Duration()
    delay.FromMilliseconds(round(retry_after_seconds * 1000))
    retry_info = _field(1, delay.SerializeToString())
    detail = Any(type_url=RETRY_INFO_TYPE, value=retry_info).SerializeToString()
    return status(code, message) + _field(3, detail)


def status(code: int, message: str) -> bytes:
    """Serialize a status without details.

    Args:
        code: Number of the gRPC status.
        message: The text of the status.
    """
    return b"\x08" + _varint(code) + _field(2, message.encode())


def retry_delay_seconds(details: bytes) -> float | None:
    """Read the delay out of serialized details; None if they hold none or can't be read."""
    try:
        for number, value in _fields(details):
            if number != 3:
                continue
            detail = Any.FromString(value)
            if detail.type_url != RETRY_INFO_TYPE:
                continue
            for inner, delay in _fields(detail.value):
                if inner == 1:
                    return Duration.FromString(delay).ToMilliseconds() / 1000
    except Exception:  # noqa: BLE001 - whatever a peer sent, the retry goes on without it
        return None
    return None


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the length-delimited fields of a message; the others are passed by."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, at = _read_varint(message, at)
        elif wire_type in (_FIXED64, _FIXED32):
            at += 8 if wire_type == _FIXED64 else 4
        elif wire_type == _BYTES:
            size, at = _read_varint(message, at)
            if at + size > len(message):
                raise ValueError("truncated")
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError("unknown wire type")


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("number longer than ten bytes")
