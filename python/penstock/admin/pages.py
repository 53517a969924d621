"""The pages of the admin listener."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from penstock import __version__
from penstock.engine import FAILED
from penstock.transport.http_responses import TEXT
from penstock.transport.http_routes import Page

if TYPE_CHECKING:
    from penstock.engine import Engine
    from penstock.transport.http import HttpFront

_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class CommitterHealth(Protocol):
    """What is told of the table committer."""

    @property
    def held(self) -> str | None:
        """Code of why no commits are made."""

    @property
    def failing(self) -> str | None:
        """What the newest commit fails with."""

    def metrics(self) -> str:
        """Prometheus text."""


class GrpcCounts(Protocol):
    """What is told of the gRPC front."""

    @property
    def calls(self) -> int:
        """Appends under way."""

    def request_counts(self) -> dict[str, int]:
        """Answered calls by the name of their status."""


class AdminPages:
    """Health, metrics and status, as they are when asked for."""

    def __init__(
        self, engine: Engine, front: HttpFront, grpc: GrpcCounts, committer: CommitterHealth
    ) -> None:
        self._engine = engine
        self._front = front
        self._grpc = grpc
        self.committer = committer
        self.addresses: dict[str, str] = {}

    def healthz(self) -> Page:
        """Tell that the process is alive and its loop turns; what it suffers from is said too.

        Only a bug in the core makes it unhealthy: then nothing but a restart helps.
        """
        state, _ = self._engine.core.state()
        healthy = state != FAILED
        text = "\n".join(("ok" if healthy else "failed", *self._conditions(), ""))
        return Page(200 if healthy else 500, TEXT, text.encode())

    def readyz(self) -> Page:
        """Tell whether a request would be accepted now."""
        if not self._front.draining and self._engine.would_accept():
            # Held or failing commits refuse nobody, for as long as the log has room.
            return Page(200, TEXT, "\n".join(("ready", *self._commits(), "")).encode())
        state, reason = self._engine.core.state()
        why = "draining" if self._front.draining else reason or state
        return Page(503, TEXT, f"not ready: {why}\n".encode())

    def metrics(self) -> Page:
        """Give all metrics in the text format of Prometheus."""
        parts = (
            self._engine.core.metrics(),
            http_metrics(self._front),
            grpc_metrics(self._grpc),
            self.committer.metrics(),
        )
        text = "".join(part if part.endswith("\n") else f"{part}\n" for part in parts if part)
        return Page(200, _METRICS_TYPE, text.encode())

    def refused(self) -> Page:
        """Tell of the newest refused requests, by HTTP, without their payload (SEC-2)."""
        return Page(200, TEXT, self._front.refused.page().encode())

    def status(self) -> Page:
        """Give a page for people."""
        core = self._engine.core
        records, backlog_bytes = core.backlog
        lines = [
            f"penstock {__version__}, process {os.getpid()}",
            f"state: {', '.join(self._conditions())}",
            *(f"{name}: {address}" for name, address in self.addresses.items()),
            f"requests in flight: {core.in_flight}",
            f"not yet in the table: {records} records, {backlog_bytes} bytes of log",
            f"http connections: {len(self._front.connections)}",
            f"grpc calls: {self._grpc.calls}",
            "",
            "/healthz  /readyz  /metrics  /refused",
            "",
        ]
        return Page(200, TEXT, "\n".join(lines).encode())

    def _conditions(self) -> list[str]:
        state, reason = self._engine.core.state()
        return [f"{state}: {reason}" if reason else state, *self._commits()]

    def _commits(self) -> list[str]:
        conditions = []
        if self.committer.held is not None:
            conditions.append(f"commits held: {self.committer.held}")
        if self.committer.failing is not None:
            conditions.append(f"commits failing: {self.committer.failing}")
        return conditions


def http_metrics(front: HttpFront) -> str:
    """Write the counters of the HTTP front. Labels are from closed sets: routes and statuses."""
    lines = [
        "# HELP penstock_http_requests_total Answered HTTP requests.",
        "# TYPE penstock_http_requests_total counter",
        *(
            f'penstock_http_requests_total{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in sorted(front.request_counts().items())
        ),
    ]
    for name, kind, description, value in (
        ("connections", "gauge", "Open HTTP connections.", len(front.connections)),
        (
            "connections_opened_total",
            "counter",
            "HTTP connections opened so far.",
            front.connections_opened,
        ),
        ("received_bytes_total", "counter", "Bytes read, with headers.", front.received_bytes),
        ("sent_bytes_total", "counter", "Bytes of answers.", front.sent_bytes),
        (
            "receiving_bytes",
            "gauge",
            "Unfinished requests held in memory.",
            front.receiving_bytes,
        ),
    ):
        full = f"penstock_http_{name}"
        lines += [f"# HELP {full} {description}", f"# TYPE {full} {kind}", f"{full} {value}"]
    return "\n".join(lines) + "\n"


def grpc_metrics(front: GrpcCounts) -> str:
    """Write the counters of the gRPC front. Labels are the names of gRPC's statuses."""
    name = "penstock_grpc_requests_total"
    lines = [f"# HELP {name} Answered appends.", f"# TYPE {name} counter"]
    for status, count in sorted(front.request_counts().items()):
        lines.append(f'{name}{{status="{status}"}} {count}')
    name = "penstock_grpc_calls"
    lines += [f"# HELP {name} Appends under way.", f"# TYPE {name} gauge", f"{name} {front.calls}"]
    return "\n".join(lines) + "\n"
