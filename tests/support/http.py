"""HTTP for tests, on a plain socket: what is sent is exactly what the test says."""

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Headers = Iterable[tuple[str, str]]

# Longer than any answer under test takes on a busy machine; a hang then fails with a traceback.
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Response:
    """One answer, read to its end."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of `name`, compared without case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


def send_raw(address: tuple[str, int], request: bytes, *, head: bool = False) -> Response:
    """Send `request` as it is on a connection of its own and read one answer."""
    with socket.create_connection(address, timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            return read_response(stream, head=head)


def request_bytes(method: str, target: str, headers: Headers, body: bytes) -> bytes:
    """Join a request from its parts; nothing is added to `headers`."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def read_response(stream: Any, *, head: bool = False) -> Response:
    """Read one answer with a length, in chunks, or up to the end of the connection."""
    while True:
        status, reason, headers = _read_head(stream)
        if status != 100:
            break
    fields = {name.lower(): value for name, value in headers}
    if head or status in {204, 304}:
        body = b""
    elif fields.get("transfer-encoding", "").lower() == "chunked":
        body = _read_chunks(stream)
    elif "content-length" in fields:
        body = stream.read(int(fields["content-length"]))
    else:
        body = stream.read()
    return Response(status, reason, headers, body)


def _read_head(stream: Any) -> tuple[int, str, list[tuple[str, str]]]:
    line = stream.readline().decode("latin-1")
    if not line:
        message = "the server closed the connection without an answer"
        raise ConnectionError(message)
    _version, status, *reason = line.rstrip("\r\n").split(" ", 2)
    headers = []
    while (line := stream.readline().decode("latin-1").rstrip("\r\n")) != "":
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    return int(status), reason[0] if reason else "", headers


def _read_chunks(stream: Any) -> bytes:
    body = b""
    while (size := int(stream.readline().split(b";")[0], 16)) > 0:
        body += stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass
    return body
