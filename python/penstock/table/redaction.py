"""Errors of libraries in words that may be logged: their text names partitions, which are tokens.

A project that is not configured is called by its token, and the table's paths hold the project
(SEC-2: no secret in logs).
"""

from __future__ import annotations

import re
import traceback
from pathlib import PurePath
from typing import Final

# In a path, plain or percent-encoded once or more: up to the next slash, or the end of the word.
_PARTITION: Final = re.compile(r"""project(=|%(?:25)*3D)[^/\\\s'",;)\]}]*""", re.IGNORECASE)
# In an action of the log as JSON, also inside a string of JSON.
_VALUE: Final = re.compile(r"""(\\*"project\\*"\s*:\s*\\*").*?(\\*")""", re.IGNORECASE)

# Causes beyond this depth are left out: a chain has two or three.
_MAX_CAUSES: Final = 5
# Innermost calls of ours that are named: enough to find the place.
_MAX_FRAMES: Final = 4
_MAX_CHARACTERS: Final = 400


def redacted(text: str) -> str:
    """Replace the values of partitions in a text."""
    return _VALUE.sub(r"\1…\2", _PARTITION.sub(r"project\1…", text))


def describe(error: BaseException) -> str:
    """Name an error, its text and its causes on one line, without values of partitions."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < _MAX_CAUSES:
        text = " ".join(redacted(str(current)).split())
        parts.append(f"{type(current).__name__}: {text}"[:_MAX_CHARACTERS])
        current = current.__cause__
    return " <- ".join(parts)


def place(error: BaseException) -> str:
    """Name the innermost calls that an error came through: file, line and function, no values."""
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    return " > ".join(
        f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames
    )
