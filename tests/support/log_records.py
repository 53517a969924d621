"""Records of the log for tests of the tools: fakes, and files of a quarantine made by hand."""

import struct
from dataclasses import dataclass
from pathlib import Path

LANE = "0123456789abcdef0123456789abcdef"
# 2026-01-01T00:00:00Z.
RECEIVED_AT_US = 1_767_225_600_000_000


@dataclass
class FakeRecord:
    """What the tools read of `_core.LogRecord`."""

    lane: str = LANE
    position: int = 12
    problem: str | None = None
    received_at_us: int = RECEIVED_AT_US
    endpoint: str = "batch"
    project: str = "website"
    token: str | None = "phc_demo…"
    request_token: str | None = None
    content_type: str = "application/json"
    sdk_info: str | None = None
    client_address: str | None = None
    sent_at_us: int | None = None
    rewritten: bool = False
    accepted: int = 3
    duplicates: int = 1
    rejected: int = 0
    coding: str = "identity"
    body: bytes = b"{}"
    decoded: bytes | None = None

    @property
    def payload_bytes(self) -> int:
        return len(self.body)

    @property
    def identity(self) -> str | None:
        return f"{self.position:032x}"

    def context(self) -> bytes:
        return record_context(self.project, self.accepted, self.received_at_us)

    def accepted_events(self) -> list[tuple[int, str, str, str]]:
        return []

    def payload(self) -> bytes:
        return self.body

    def text(self) -> bytes:
        return self.body if self.decoded is None else self.decoded


def record_context(project: str, events: int, received_at_us: int) -> bytes:
    """Write a context as `rust_core/engine/src/record.rs` lays it out: a plain POST to /batch."""
    layout, decoder, endpoint, coding, flags = 1, 1, 1, 0, 0
    limits = (100 << 20, 8 << 20, 50_000, 128)
    name = project.encode()
    return (
        struct.pack("<BHBBBq16s4I", layout, decoder, endpoint, coding, flags, received_at_us,
                    bytes(16), *limits)
        + struct.pack("<H", len(name))
        + name
        + struct.pack("<II", events, 0)
    )  # fmt: skip


def quarantine_file(
    data_dir: Path, position: int, context: bytes, payload: bytes, why: str = "a test says so"
) -> Path:
    """Write a file as `rust_core/engine/src/quarantine.rs` lays it out."""
    folder = data_dir / "wal" / "quarantine"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{LANE}-{position:020}.record"
    reason = why.encode()
    path.write_bytes(
        b"PSQR"
        + struct.pack("<BqH", 1, RECEIVED_AT_US, len(reason))
        + reason
        + struct.pack("<I", len(context))
        + context
        + payload
    )
    return path
