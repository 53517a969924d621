"""What answers while the core is being opened: come back in a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock.outcomes import refusal_text

# A start is over in about a second, unless much of the log has to be read.
_RETRY_AFTER_SECONDS: Final = 1
_CODE: Final = "starting"


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    """As `_core.Refusal`."""

    code: str
    text: str
    retry_after_seconds: int


_REFUSAL: Final = _Refusal(
    code=_CODE, text=refusal_text(_CODE), retry_after_seconds=_RETRY_AFTER_SECONDS
)


class StartingCore:
    """Has the surface of the core, refuses every request, and knows nothing.

    A port that is closed loses what a browser sends once; a 503 tells every SDK to try again.
    """

    completion_fd = -1
    in_flight = 0
    backlog = (0, 0)

    def submit_http(self, *_: object, **__: object) -> _Refusal:
        """Refuse an HTTP request."""
        return _REFUSAL

    def submit_ai(self, *_: object, **__: object) -> _Refusal:
        """Refuse a form of an AI event, or an export of spans."""
        return _REFUSAL

    def submit_v1(self, *_: object, **__: object) -> _Refusal:
        """Refuse a request of capture v1."""
        return _REFUSAL

    def submit_append(self, *_: object, **__: object) -> _Refusal:
        """Refuse an `AppendRequest`."""
        return _REFUSAL

    def drain(self) -> list[tuple[Any, Any]]:
        """Give nothing back: nothing was taken."""
        return []

    def start(self, committed: Mapping[str, Mapping[str, int]]) -> None:
        """Not for this one."""
        raise AssertionError(committed)

    def replace_projects(self, projects_json: str) -> None:  # noqa: ARG002 - the core's signature
        """Not for this one: settings are read again once the core is open."""
        raise AssertionError

    def flush(self) -> None:
        """Do nothing: nothing is here."""

    def drain_and_stop_admission(self) -> None:
        """Do nothing: nothing is taken anyway."""

    def state(self) -> tuple[str, str]:
        """Tell health checks why nothing is taken."""
        return _CODE, _CODE

    def metrics(self) -> str:
        """Give none."""
        return ""

    def log_events(self) -> list[tuple[str, str, dict[str, str]]]:
        """Give none."""
        return []

    def close(self) -> None:
        """Do nothing: nothing is open."""


class StartingCommitter:
    """What health pages ask of the table committer, before there is one."""

    held: str | None = None
    failing: str | None = None

    def metrics(self) -> str:
        """Give none."""
        return ""
