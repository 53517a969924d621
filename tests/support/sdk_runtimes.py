"""Real SDKs of other languages: found, installed from lock files into `.build/sdk`, and run.

A runtime that the machine lacks, or a registry that can't be reached, skips the tests that need it
and says so. Whatever else goes wrong is a failure.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

from support.repository import ROOT
from support.server import clean_environment

SOURCES = ROOT / "tests" / "sdk"
BUILD = ROOT / ".build" / "sdk"

OLDEST_NODE = 20
# Go's, of go.mod; a newer toolchain is never fetched.
OLDEST_GO = (1, 25)

# A cold install fetches some 40 MB and compiles Go's standard library.
INSTALL_SECONDS = 300.0
ANSWER_SECONDS = 60.0

# How the package managers say that nobody answers. Their other errors are ours.
_UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT"
    r"|no such host|connection refused|i/o timeout|network is unreachable|TLS handshake timeout"
)


@dataclass
class Driver:
    """One run of a program that uses an SDK; it talks in lines of JSON."""

    process: subprocess.Popen[str]
    said: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, line: dict[str, Any]) -> None:
        """Write one line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def wait_for(self, key: str) -> Any:
        """Read its lines up to the first that has `key`, and return the value there."""
        for line in _lines(self.process.stdout):
            self.said.append(line)
            if key in line:
                return line[key]
        code = self.process.wait(ANSWER_SECONDS)
        pytest.fail(f"no line with {key!r}; it ended with {code}\n{self._errors()}")

    def finish(self) -> None:
        """Wait until it has ended by itself, well."""
        self.said += _lines(self.process.stdout)
        code = self.process.wait(ANSWER_SECONDS)
        assert code == 0, f"it ended with {code}\n{self._errors()}"

    def end(self) -> None:
        """Stop it, if it still runs, and let go of its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


def _lines(stream: IO[str] | None) -> Any:
    assert stream is not None
    return (json.loads(line) for line in stream if line.startswith("{"))


def start_driver(command: Sequence[str]) -> Driver:
    """Start a program that uses an SDK, without our settings in its environment."""
    process = subprocess.Popen(
        command,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Driver(process)


def node_command(script: str) -> list[str]:
    """Return the command that runs `tests/sdk/node/<script>` with the packages of its lock file."""
    return [_node(), str(_node_folder() / script)]


def go_command() -> list[str]:
    """Return the command of the built `tests/sdk/go`."""
    return [str(_go_program())]


@cache
def chromium() -> str:
    """Find a Chromium that the machine has."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        _skip("no Chromium (Debian: apt-get install chromium)")
    return found


@cache
def _node() -> str:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        _skip("no Node.js with npm")
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    version = int(told.stdout.lstrip("v").split(".")[0])
    if version < OLDEST_NODE:
        _skip(f"Node.js {version} is older than {OLDEST_NODE}")
    return node


@cache
def _node_folder() -> Path:
    """Copy the scripts beside the packages, where Node looks for them, and install what changed."""
    _node()
    folder, sources = BUILD / "node", SOURCES / "node"
    installed = folder / "installed.json"
    lock = (sources / "package-lock.json").read_text()
    with _alone(folder):
        for path in filter(Path.is_file, sources.iterdir()):
            _copy_changed(path, folder / path.name)
        if not installed.exists() or installed.read_text() != lock:
            installed.unlink(missing_ok=True)
            quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1")
            _install(["npm", "ci", *quiet], folder)
            installed.write_text(lock)
    return folder


@cache
def _go_program() -> Path:
    go = shutil.which("go")
    if go is None:
        _skip("no Go")
    environment = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True)
    version = tuple(int(part) for part in re.findall(r"\d+", told.stdout)[:2])
    if version < OLDEST_GO:
        _skip(f"Go {version} is older than {OLDEST_GO}")
    program = BUILD / "go" / "driver"
    with _alone(program.parent):
        # To another name: the one before may be running.
        built = program.with_name("built")
        _install([go, "build", "-o", str(built), "."], SOURCES / "go", **environment)
        built.rename(program)
    return program


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep the other processes of a parallel run out of a folder; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_changed(source: Path, target: Path) -> None:
    """Copy a file unless it is there: another process may be reading it."""
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copy(source, target)


def _install(command: Sequence[str], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode == 0:
        return
    told = done.stderr + done.stdout
    if _UNREACHABLE.search(told):
        _skip(f"the registry can't be reached: {' '.join(command[:2])}")
    pytest.fail(f"{' '.join(command)}\n{told}")


def _skip(reason: str) -> NoReturn:
    pytest.skip(reason)
