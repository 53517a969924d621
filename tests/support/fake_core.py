"""A core without storage: takes requests, and gives back what a test decides."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENDPOINTS = [
    ("batch", 1),
    ("e", 2),
    ("i/v0/e", 3),
    ("capture", 4),
    ("track", 5),
    ("engage", 6),
    ("i/v0/ai/batch", 7),
    ("s", 16),
    ("i/v0/ai", 20),
    ("i/v0/ai/otel", 21),
    ("i/v1/analytics/events", 24),
    ("i/v1/ai/events", 25),
    ("penstock.v1.IngestService/Append", 32),
]


@dataclass
class FakeRefusal:
    code: str = "overloaded"
    text: str = "server is overloaded, please retry"
    retry_after_seconds: int = 0


@dataclass
class FakeResult:
    accepted: int = 1
    duplicates: int = 0
    rejected: int = 0
    log_position: int = 1
    first_rejection: tuple[int, str, str] | None = None
    answer: bytes | None = None


@dataclass
class FakeResults:
    body: bytes = b'{"results":{}}'
    retry_after_seconds: int = 0


@dataclass
class Submitted:
    ticket: Any
    body: bytes
    endpoint: int
    coding: int | None
    sent_at_us: int | None
    client_address: str | None
    headers: tuple[bytes | None, ...] = ()
    head: tuple[str, str | None, int | None] | None = None
    user_agent: bytes | None = None


@dataclass
class FakeCore:
    """Has the surface of `_core.Engine` that fronts and life cycle use.

    With `answer_at_once`, a request is finished as soon as it is taken, but given back only by
    `drain`, as the real one does.
    """

    answer_at_once: bool = False
    refusal: FakeRefusal | None = None
    submitted: list[Submitted] = field(default_factory=list)
    finished: list[tuple[Any, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    current_state: tuple[str, str] = ("ready", "")
    backlog: tuple[int, int] = (0, 0)
    in_flight: int = 0

    def __post_init__(self):
        self.completion_fd = os.eventfd(0, os.EFD_NONBLOCK)

    def submit_http(
        self, ticket, body, endpoint, coding, sent_at_us, client_address, user_agent=None
    ):
        submitted = Submitted(ticket, body, endpoint, coding, sent_at_us, client_address)
        submitted.user_agent = user_agent
        return self._submit(submitted)

    def submit_v1(self, ticket, body, endpoint, coding, headers, client_address):
        assert len(headers) == 7
        submitted = Submitted(ticket, body, endpoint, coding, None, client_address, headers)
        return self._submit(submitted, FakeResults())

    def _submit(self, submitted, result=None):
        assert type(submitted.body) is bytes
        if self.refusal is not None:
            return self.refusal
        self.submitted.append(submitted)
        self.in_flight += 1
        if self.answer_at_once:
            self.finish(submitted.ticket, result)
        return None

    def submit_ai(self, ticket, body, endpoint, coding, head, client_address):
        refusal = self.submit_http(ticket, body, endpoint, coding, head[2], client_address)
        if refusal is None:
            self.submitted[-1].head = head
        return refusal

    def submit_append(self, ticket, message, _metadata_token, client_address):
        return self.submit_http(ticket, message, 32, 0, None, client_address)

    def finish(self, ticket, result=None):
        self.finished.append((ticket, result or FakeResult()))
        os.eventfd_write(self.completion_fd, 1)

    def finish_all(self, result=None):
        for submitted in self.submitted[-self.in_flight :]:
            self.finish(submitted.ticket, result)

    def drain(self):
        if "close" not in self.calls:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.completion_fd)
        finished, self.finished = self.finished, []
        self.in_flight -= len(finished)
        return finished

    def start(self, _committed: Mapping[str, Mapping[str, int]]):
        self.calls.append("start")

    def flush(self):
        self.calls.append("flush")
        self.backlog = (0, 0)

    def replace_projects(self, projects_json: str):
        self.calls.append(f"replace_projects {projects_json}")

    def drain_and_stop_admission(self):
        self.calls.append("drain_and_stop_admission")
        self.current_state = ("draining", "")
        self.refusal = FakeRefusal(
            "shutting_down", "server is shutting down, please retry", retry_after_seconds=2
        )

    def state(self):
        return self.current_state

    def metrics(self):
        return "penstock_engine_events_total 3"

    def log_events(self):
        return [("info", "core_event", {"key": "value"})] if "log" in self.calls else []

    def close(self):
        if "close" not in self.calls:
            self.calls.append("close")
            os.close(self.completion_fd)
