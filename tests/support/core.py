"""An engine of the real extension, without any front."""

import contextlib
import json
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from penstock import _core
from penstock.config import Settings, engine_options
from penstock.table.committer import Committer

# Far above what a sync takes; a lost completion then fails instead of hanging.
COMPLETION_SECONDS = 20.0

EVENT = {"event": "signed up", "distinct_id": "ada", "properties": {"n": 1}}
# An upload of session replay, for the endpoint `s`.
SNAPSHOT = (
    b'[{"distinct_id":"ada","properties":'
    b'{"token":"phc_boundary","$session_id":"s-1","$snapshot_data":[1]}}]'
)


def batch(*events: Any, token: str = "phc_boundary") -> bytes:
    """Write a body as SDKs do."""
    return json.dumps({"api_key": token, "batch": events}).encode()


class OpenedEngine:
    """An engine, and the little that a loop does for it."""

    def __init__(self, core: _core.Engine) -> None:
        self.core = core
        self._tickets = 0

    def submit(self, body: Any, endpoint: str = "batch", coding: int = 0) -> Any:
        """Submit and wait: a `SubmitResult` or a `Refusal`."""
        self._tickets += 1
        ticket = f"ticket-{self._tickets}"
        number = dict(_core.endpoints())[endpoint]
        refusal = self.core.submit_http(ticket, body, number, coding, None, None)
        if refusal is not None:
            return refusal
        ((returned, result),) = self.finished(1)
        assert returned == ticket
        return result

    def finished(self, count: int) -> list[tuple[object, Any]]:
        """Wait for `count` results by the completion descriptor, as the event loop does."""
        results: list[tuple[object, Any]] = []
        while len(results) < count:
            readable, _, _ = select.select([self.core.completion_fd], [], [], COMPLETION_SECONDS)
            assert readable, f"only {len(results)} of {count} results came"
            results += self.core.drain()
        return results


@contextlib.contextmanager
def stepped_committer(data_dir: Path) -> Iterator[tuple[OpenedEngine, Committer]]:
    """Open an engine whose cuts are committed whenever the test calls the committer's `_step`."""
    settings = Settings(data_dir=data_dir, flush_interval_seconds=0.05, disk_reserve_bytes=0)
    core = _core.Engine(engine_options(settings))
    try:
        committer = Committer(core, data_dir)
        core.start(committer.open())
        yield OpenedEngine(core), committer
    finally:
        core.close()


OpenEngine = Callable[..., OpenedEngine]
