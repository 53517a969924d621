"""System calls of a server, as `strace` tells them: what was written, named, synced; in order."""

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# What writes, names, takes names away, and syncs; with the paths of descriptors (`-y`).
_CALLS = (
    "openat,write,pwrite64,pwritev,pwritev2,ftruncate,fsync,fdatasync,link,linkat,rename,renameat,"
    "renameat2,unlink,unlinkat,mkdir,mkdirat"
)
# Paths of tests are shorter; of what is written nothing is looked at.
_MAX_PATH_BYTES = 500
_LINE = re.compile(r"^\d+\s+(\w+)\((.*)\)\s+=\s+(-?\d+)")
_UNFINISHED = re.compile(r"^(\d+)\s+(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>(.*)\)\s+=\s+(-?\d+)")
_DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OFFSET = re.compile(r", (\d+)$")


_MAX_TRIES = 400


@dataclass(frozen=True)
class Call:
    """One call that succeeded: by the time it ended.

    `paths`: of its descriptor, or its arguments. `offset`: of a write at a place, else -1.
    `began`: when it began, by the number of the line; a call that another thread's calls overlap.
    """

    name: str
    paths: tuple[str, ...]
    offset: int
    began: int
    ended: int

    @property
    def creates(self) -> bool:
        return self.name == "open_create"


def launcher(output: Path) -> tuple[str, ...]:
    """Give what is put before the command of a server; skips a test where it is not to be had."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    return (
        strace,
        # The server stays our own child: it is the tracer that goes elsewhere.
        "--daemonize",
        "--follow-forks",
        "--seccomp-bpf",
        "--decode-fds=path",
        f"--string-limit={_MAX_PATH_BYTES}",
        "--quiet=attach,personality,thread-execve",
        "--signal=none",
        f"--trace={_CALLS}",
        f"--output={output}",
    )


def wait_for_end(output: Path, pid: int) -> None:
    """Wait until the tracer of a process that is gone has written all of it."""
    pause = threading.Event()
    for _ in range(_MAX_TRIES):
        if re.search(rf"(?m)^{pid}\s+\+\+\+ (exited|killed) ", output.read_text(errors="replace")):
            return
        pause.wait(0.05)
    raise AssertionError("the tracer does not end")


def read_calls(output: Path, below: Path) -> list[Call]:
    """Read the calls that succeeded and concern a path below a folder, by the time they ended."""
    return [
        call
        for call in _calls(output)
        if any(path.startswith(f"{below}/") or path == str(below) for path in call.paths)
    ]


def _calls(output: Path) -> Iterator[Call]:
    begun: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate(output.read_text(errors="replace").splitlines()):
        if (match := _UNFINISHED.match(line)) is not None:
            thread, name, arguments = match.groups()
            begun[thread] = (number, name, arguments)
            continue
        if (match := _RESUMED.match(line)) is not None:
            thread, name, rest, result = match.groups()
            began, _, arguments = begun.pop(thread)
            yield from _call(name, arguments + rest, int(result), began, number)
        elif (match := _LINE.match(line)) is not None:
            name, arguments, result = match.groups()
            yield from _call(name, arguments, int(result), number, number)


def _call(name: str, arguments: str, result: int, began: int, ended: int) -> Iterator[Call]:
    if result < 0:
        return
    if name == "openat":
        if "O_CREAT" not in arguments:
            return
        name = "open_create"
    descriptor = _DESCRIPTOR.match(arguments)
    named = (
        [descriptor[1]]
        if descriptor is not None and name != "open_create"
        else [_unescaped(text) for text in _QUOTED.findall(arguments)]
    )
    offset = _OFFSET.search(arguments)
    at = int(offset[1]) if offset is not None and name.startswith("pwrite") else -1
    yield Call(name, tuple(named), at, began, ended)


def _unescaped(text: str) -> str:
    return text.encode().decode("unicode_escape").encode("latin-1").decode()
