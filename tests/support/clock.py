"""A wall clock that jumps, under a whole server: Python, Rust and libraries alike."""

import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("native") / "clock_shift.c"
YEAR_SECONDS = 365 * 24 * 3600


class ShiftedClock:
    """What a server's wall clock is ahead of the machine's; moved while it runs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._library = folder / "clock_shift.so"
        self.set(0)
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O2", "-o", self._library, SOURCE, "-ldl"], check=True
        )

    @property
    def launcher(self) -> tuple[str, ...]:
        """What is put before the command of a server."""
        return (
            "/usr/bin/env",
            f"LD_PRELOAD={self._library}",
            f"PENSTOCK_TEST_CLOCK_FILE={self._file}",
        )

    def set(self, seconds: int) -> None:
        """Move the clock to so much before or after the machine's."""
        # In place: a running process has the file mapped.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))
