"""Commands of penstock that end by themselves."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

from support.server import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

# Each has a second's work; a busy machine takes some, and one that hangs is to be seen as itself.
TIMEOUT_SECONDS: Final = 60


def run_penstock(
    *arguments: object, environment: Mapping[str, str] | None = None, input_text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command; its exit code, output and errors.

    Args:
        arguments: Behind `penstock`.
        environment: Variables beside the clean environment of tests.
        input_text: What it reads from its standard input; nothing by default.
    """
    return subprocess.run(
        [sys.executable, "-m", "penstock", *map(str, arguments)],
        env=clean_environment() | dict(environment or {}),
        input=input_text or "",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
