"""Structured logs on the standard library: constant event names with fields.

`logger("http").warning("connection_refused", open=10_000)` becomes one line on standard error, as
logfmt or JSON. Fields never hold payloads or whole tokens (SEC-2).
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

_ROOT: Final = "penstock"
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# A field is for finding the cause, not for carrying data.
MAX_FIELD_CHARACTERS: Final = 500


class EventLogger:
    """Logs events of one room."""

    __slots__ = ("_logger",)

    def __init__(self, room: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{room}")

    def debug(self, event: str, /, **fields: object) -> None:
        """Log what happens per request."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Log a change of the life cycle."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Log what went wrong and was recovered from."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Log that data is lost or a person is needed."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Log an error together with the exception that is being handled."""
        self._log(logging.ERROR, event, fields, traceback=True)

    def at(self, level: str, event: str, fields: dict[str, object]) -> None:
        """Log at a level given by name: the core's events."""
        self._log(_LEVELS.get(level.lower(), logging.ERROR), event, fields)

    def _log(
        self, level: int, event: str, fields: dict[str, object], *, traceback: bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            extra = {"penstock_fields": fields}
            self._logger.log(level, event, extra=extra, exc_info=traceback, stacklevel=3)


def logger(room: str) -> EventLogger:
    """Give the logger of a room."""
    return EventLogger(room)


def configure(log_format: str, log_level: str, stream: TextIO | None = None) -> None:
    """Send the logs of the process to `stream` (standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(_LEVELS[log_level])


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        return json.dumps(_parts(self, record), ensure_ascii=False, default=str)


class LogfmtFormatter(logging.Formatter):
    """`key=value` pairs, quoted where needed."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        return " ".join(f"{key}={_quoted(value)}" for key, value in _parts(self, record).items())


def _parts(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    moment = datetime.fromtimestamp(record.created, UTC)
    parts: dict[str, object] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": "warn" if record.levelno == logging.WARNING else record.levelname.lower(),
        "room": record.name.removeprefix(f"{_ROOT}."),
        "event": record.getMessage(),
    }
    fields: dict[str, object] = getattr(record, "penstock_fields", {})
    for key, value in fields.items():
        cut = value if isinstance(value, int | float | None) else str(value)[:MAX_FIELD_CHARACTERS]
        parts[f"{key}_" if key in parts else key] = cut
    if record.exc_info:
        parts["exception"] = formatter.formatException(record.exc_info)
    return parts


def _quoted(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    text = str(value)
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return json.dumps(text, ensure_ascii=False)
