"""Trace exports of OpenTelemetry, written by hand: JSON, and the same as protobuf."""

import json
import struct
from typing import Any

START_NS = 1_767_222_000_123_456_789


def span(number: int, name: str = "chat", /, **attributes: str | int | bool) -> dict[str, Any]:
    """Describe a span; `number` tells its ids, `_` in names of attributes stands for `.`."""
    return {
        "trace_id": number.to_bytes(16),
        "span_id": number.to_bytes(8),
        "name": name,
        "attributes": {key.replace("_", "."): value for key, value in attributes.items()},
    }


def chat(number: int, /, **attributes: str | int | bool) -> dict[str, Any]:
    """Describe a span of a conversation with a model."""
    one = span(number, "chat", **attributes)
    one["attributes"]["gen_ai.operation.name"] = "chat"
    return one


def as_json(*spans: dict[str, Any]) -> bytes:
    """Write an export of one resource as JSON."""
    described = [
        {
            "traceId": one["trace_id"].hex(),
            "spanId": one["span_id"].hex(),
            "name": one["name"],
            "startTimeUnixNano": str(START_NS),
            "endTimeUnixNano": str(START_NS + 10**9),
            "attributes": [
                {"key": key, "value": _any_json(value)} for key, value in one["attributes"].items()
            ],
        }
        for one in spans
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": described}]}]}).encode()


def as_protobuf(*spans: dict[str, Any]) -> bytes:
    """Write the same as protobuf."""
    described = b"".join(_field(2, _span(one)) for one in spans)
    return _field(1, _field(2, described))


def _any_json(value: str | int | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


def _span(one: dict[str, Any]) -> bytes:
    attributes = b"".join(
        _field(9, _field(1, key.encode()) + _field(2, _any(value)))
        for key, value in one["attributes"].items()
    )
    times = _fixed64(7, START_NS) + _fixed64(8, START_NS + 10**9)
    ids = _field(1, one["trace_id"]) + _field(2, one["span_id"])
    return ids + _field(5, one["name"].encode()) + times + attributes


def _any(value: str | int | bool) -> bytes:
    if isinstance(value, bool):
        return bytes([2 << 3, value])
    return bytes([3 << 3]) + _varint(value) if isinstance(value, int) else _field(1, value.encode())


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _fixed64(number: int, value: int) -> bytes:
    return bytes([number << 3 | 1]) + struct.pack("<Q", value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
