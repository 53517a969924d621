"""Reads the recordings of SDK traffic; `tests/vectors/README.md` describes the format."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.http import request_bytes

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "sdk"


@dataclass(frozen=True)
class SentEvent:
    """One event inside a recorded request, as far as it identifies a row."""

    event: str
    distinct_id: str
    uuid: str | None


@dataclass(frozen=True)
class RecordedRequest:
    """One request of a recording."""

    label: str
    seq: int
    method: str
    path: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    how: list[str]
    events: list[SentEvent]

    def raw(self) -> bytes:
        """Return the request as it was on the wire; a chunked body goes in two chunks."""
        fields = {name.lower(): value for name, value in self.headers}
        body = self.body
        if fields.get("transfer-encoding") == "chunked":
            middle = len(body) // 2
            body = b"".join(_chunk(part) for part in (body[:middle], body[middle:], b""))
        return request_bytes(self.method, self.target, self.headers, body)


@dataclass(frozen=True)
class Expectation:
    """Rows that one run must have left in the table."""

    label: str
    event: str
    distinct_id: str | None
    properties: dict[str, Any]
    count: int
    uuid: str | None
    timestamp: str | None


@dataclass(frozen=True)
class Recording:
    """One file: what was sent, and what must come of it."""

    sdk: str
    token: str
    requests: list[RecordedRequest]
    expectations: list[Expectation]


def load(sdk: str) -> Recording:
    """Read `tests/vectors/sdk/<sdk>.jsonl`."""
    lines = (FOLDER / f"{sdk}.jsonl").read_text(encoding="utf-8").splitlines()
    first, *rest = [json.loads(line) for line in lines]
    meta = first["meta"]
    expectations = [
        Expectation(
            run["label"],
            item["event"],
            item["distinct_id"],
            item["properties"],
            item["count"],
            item.get("uuid"),
            item.get("timestamp"),
        )
        for run in meta["runs"]
        for item in run["expected"]
    ]
    return Recording(sdk, meta["token"], [_request(line) for line in rest], expectations)


def _request(line: dict[str, Any]) -> RecordedRequest:
    decoded = line["decoded"] or {}
    return RecordedRequest(
        label=line["label"],
        seq=line["seq"],
        method=line["method"],
        path=line["path"],
        target=line["target"],
        headers=[(name, value) for name, value in line["headers"]],
        body=base64.b64decode(line["body_b64"]),
        how=decoded.get("how") or [],
        events=[_event(item) for item in _items(decoded.get("json"))],
    )


def _items(document: object) -> list[dict[str, Any]]:
    items: Any = document.get("batch", [document]) if isinstance(document, dict) else document
    return [item for item in items or [] if isinstance(item, dict) and "event" in item]


def _event(item: dict[str, Any]) -> SentEvent:
    properties = item.get("properties") or {}
    places = (
        item.get("distinct_id"),
        item.get("$distinct_id"),
        properties.get("distinct_id"),
    )
    distinct_id = next((value for value in places if value is not None), "")
    uuid = item.get("uuid")
    # Stored in lower case, however it was sent.
    return SentEvent(item["event"], str(distinct_id), uuid.lower() if uuid else None)


def _chunk(part: bytes) -> bytes:
    return f"{len(part):x}".encode() + b"\r\n" + part + b"\r\n"
