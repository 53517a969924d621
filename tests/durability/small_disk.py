"""Small file systems in memory, in a mount namespace that is gone with its test."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

DISK_BYTES = 64 << 20


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory that only programs started by `launcher` see."""

    path: Path
    launcher: tuple[str, ...]
    seen_from_outside: Path

    def fill(self) -> None:
        """Leave no room at all."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def leave(self, room_bytes: int) -> None:
        """Leave about that much room, by filling or by giving back."""
        status = os.statvfs(self.seen_from_outside)
        more = status.f_bavail * status.f_frsize - room_bytes
        with self._ballast.open("ab", buffering=0) as file:
            size = max(0, os.fstat(file.fileno()).st_size + more)
            if more > 0:
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def mount_over(self, folder: Path, size_bytes: int) -> "SmallDisk":
        """Put a file system of its own in place of a folder, with what is in the folder."""
        script = (
            'set -e; copy=$(mktemp -d); cp -a "$0/." "$copy"; '
            'mount -t tmpfs -o size="$1" none "$0"; cp -a "$copy/." "$0"; rm -r "$copy"'
        )
        subprocess.run(
            [*self.launcher, "sh", "-c", script, str(folder), str(size_bytes)], check=True
        )
        outside = self.seen_from_outside
        root = Path(str(outside).removesuffix(str(self.path)))
        return SmallDisk(folder, self.launcher, root / folder.relative_to("/"))

    @property
    def _ballast(self) -> Path:
        return self.seen_from_outside / "ballast"


@contextlib.contextmanager
def mounted(path: Path) -> Iterator[SmallDisk]:
    """Mount one in a namespace of its own, which is gone with the test whatever happens."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    path.mkdir()
    script = f'mount -t tmpfs -o size={DISK_BYTES} none "$0" && echo mounted && exec cat'
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != b"mounted\n":
            reason = holder.stderr.read().decode(errors="replace").strip()
            pytest.skip(f"a small file system can't be mounted here: {reason}")
        launcher = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt")
        yield SmallDisk(path, launcher, Path(f"/proc/{holder.pid}/root{path}"))
        # The end of its input is the end of the namespace.
        holder.stdin.close()
