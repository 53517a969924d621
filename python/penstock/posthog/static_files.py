"""Files of the folder that the operator names: posthog-js, for pages that load it from us.

Whatever a path says, only plain files below the folder are opened: names are from a small alphabet,
and where the opened file really lies is looked at once it is open, so that neither a symbolic link
nor a swap in between leads out. All methods that touch the disk block, and run on a thread.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from penstock.logs import logger
from penstock.posthog.calls import JAVASCRIPT, JSON, TEXT, Answer, Call, etag_of, refused

_log = logger("posthog")

# Each holds an open file, a chunk that is read and one that waits for its client: 40 MB if all are
# slow. A file of posthog-js is sent in milliseconds to a client that reads.
MAX_OPEN_FILES: Final = 256

# What posthog-js names its files and versions. No name begins with a dot.
_PATH: Final = re.compile(rb"[\w@+-][\w.@+-]*(?:/[\w@+-][\w.@+-]*){0,7}", re.ASCII)
_MAX_PATH_BYTES: Final = 512

# Where array.js is in the folder that `npm pack` unpacks to, and in the package itself.
_PLACES: Final = (".", "dist", "package/dist", "node_modules/posthog-js/dist")
ARRAY_JS: Final = b"array.js"

# What array.js, and the package in a bundle, load to record sessions, by its versions.
_RECORDERS: Final = ("lazy-recorder.js", "posthog-recorder.js", "recorder.js")

# Pages ask again after it, and a new version is then taken up; PostHog's own has the same order.
_CACHE_CONTROL: Final = b"public, max-age=300"

_CONTENT_TYPES: Final = {
    ".js": JAVASCRIPT,
    ".mjs": JAVASCRIPT,
    ".cjs": JAVASCRIPT,
    ".map": JSON,
    ".json": JSON,
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".txt": TEXT,
    ".md": TEXT,
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".wasm": b"application/wasm",
}
_OTHER_TYPE: Final = b"application/octet-stream"


class StaticFile:
    """One open file.

    Attributes:
        size: Bytes that it had when it was opened: what will be sent of it.
    """

    __slots__ = ("_descriptor", "_owner", "etag", "size")

    def __init__(self, owner: StaticFiles, descriptor: int, status: os.stat_result) -> None:
        self._owner = owner
        self._descriptor = descriptor
        self.size = status.st_size
        self.etag = etag_of(b"%d %d %d" % (status.st_ino, status.st_size, status.st_mtime_ns))

    def read(self, offset: int, size: int) -> bytes:
        """Read a part of it; blocks. Nothing comes once the file has become shorter."""
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        """Close it, if it is open. Not while it is being read."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._owner.opened.discard(self)


class StaticFiles:
    """The folder.

    Attributes:
        opened: Files that are open now.
        has_recorder: Whether pages find there what records sessions; as it was at the start.
    """

    def __init__(self, folder: Path) -> None:
        places = [folder / place for place in _PLACES]
        found = next((place for place in places if (place / "array.js").is_file()), None)
        self._root = (found or folder).resolve()
        self.opened: set[StaticFile] = set()
        self.has_recorder = any((self._root / name).is_file() for name in _RECORDERS)
        if found is None:
            _log.warning(
                "no_array_js",
                static_dir=folder,
                advice="unpack the npm package posthog-js there: pages that load it will not work",
            )

    def open(self, path: bytes) -> StaticFile | None:
        """Open a file by its path below the folder; None: there is none to be served. Blocks."""
        if len(path) > _MAX_PATH_BYTES or not _PATH.fullmatch(path):
            return None
        try:
            # Not to be held up by a pipe, nor to follow a name to a terminal.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(self._root / os.fsdecode(path), flags)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            real = Path(f"/proc/self/fd/{descriptor}").readlink()
        except OSError:
            os.close(descriptor)
            return None
        if not stat.S_ISREG(status.st_mode) or not real.is_relative_to(self._root):
            os.close(descriptor)
            return None
        file = StaticFile(self, descriptor, status)
        self.opened.add(file)
        return file


class StaticCall(Call):
    """One request for a file."""

    blocks = True

    def __init__(self, name: str, files: StaticFiles, path: bytes, before: bytes = b"") -> None:
        self.name = name
        self._files = files
        self._path = path
        self._before = before

    def by_head(self, method: bytes) -> None:
        """Only the disk knows."""

    def answer(self, body: bytes, coding: int) -> Answer:  # noqa: ARG002 - it has none
        """Open the file; blocks."""
        if len(self._files.opened) >= MAX_OPEN_FILES:
            return refused("overloaded")._replace(retry_after_seconds=1)
        file = self._files.open(self._path)
        if file is None:
            return Answer(404, b"no such file", TEXT)
        etag = etag_of(self._before + file.etag) if self._before else file.etag
        suffix = Path(os.fsdecode(self._path)).suffix
        content_type = _CONTENT_TYPES.get(suffix, _OTHER_TYPE)
        return Answer(200, self._before, content_type, etag, _CACHE_CONTROL, file)
