"""HTTP/2 by hand, for what no gRPC client does: half-sent messages, too many streams.

Sends heads as plain literals (RFC 7541 §6.2.2, nothing compressed), keeps to the flow control of
its peer (RFC 9113 §5.2), and of the answers tells only that a stream has ended, and how.
"""

import socket
from collections.abc import Iterable

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW = 3, 4
_MAX_FRAME_BYTES = 16_384
_DEFAULT_WINDOW = 65_535
# More than this unsent is the peer's TCP window at work, not ours to fill.
_MAX_UNSENT_BYTES = 1 << 20

ENDED = "ended"


class RawConnection:
    """One connection that opens streams and sends on them as the peer allows.

    Attributes:
        ended: Streams that the peer has ended: `ENDED`, or the error code of its reset.
        closed: Whether the peer has closed the connection.
        max_streams: What the peer said that it takes at once.
    """

    def __init__(self, address: tuple[str, int], *, answer_window: int = _DEFAULT_WINDOW) -> None:
        """Connect; of each answer the peer may send `answer_window` bytes, and never more."""
        self._socket = socket.create_connection(address, timeout=30)
        self._socket.setblocking(False)
        self._received = b""
        window = _INITIAL_WINDOW.to_bytes(2, "big") + answer_window.to_bytes(4, "big")
        self._unsent = bytearray(_PREFACE + _frame(_SETTINGS, 0, 0, window))
        self._window = _DEFAULT_WINDOW
        self._initial_window = _DEFAULT_WINDOW
        self._windows: dict[int, int] = {}
        self._next_stream = 1
        self.ended: dict[int, str | int] = {}
        self.closed = False
        self.max_streams: int | None = None

    def open(self, path: str) -> int:
        """Begin a gRPC call; its message is to follow."""
        stream = self._next_stream
        self._next_stream += 2
        self._windows[stream] = self._initial_window
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "test"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        self._unsent += _frame(_HEADERS, _END_HEADERS, stream, _plain_fields(fields))
        return stream

    def send(self, stream: int, data: bytes) -> int:
        """Send as much of `data` as the windows allow; its size."""
        sent = 0
        while stream in self._windows and len(self._unsent) < _MAX_UNSENT_BYTES:
            size = min(self._window, self._windows[stream], _MAX_FRAME_BYTES, len(data) - sent)
            if size <= 0:
                break
            self._unsent += _frame(_DATA, 0, stream, data[sent : sent + size])
            self._window -= size
            self._windows[stream] -= size
            sent += size
        return sent

    def pump(self) -> None:
        """Exchange with the peer what can be exchanged at once."""
        if self.closed:
            return
        try:
            self._exchange()
        except OSError:
            self.closed = True
        while len(self._received) >= 9:
            end = 9 + int.from_bytes(self._received[:3], "big")
            if len(self._received) < end:
                break
            kind, flags = self._received[3:5]
            stream = int.from_bytes(self._received[5:9], "big") & 0x7FFF_FFFF
            self._take(kind, flags, stream, self._received[9:end])
            self._received = self._received[end:]

    def close(self) -> None:
        self._socket.close()

    def _exchange(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        try:
            while chunk := self._socket.recv(1 << 18):
                self._received += chunk
            self.closed = True
        except BlockingIOError:
            pass

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._take_settings(payload)
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _WINDOW and stream in self._windows:
            self._windows[stream] += int.from_bytes(payload, "big")
        elif kind == _PING and not flags & _ACK:
            self._unsent += _frame(_PING, _ACK, 0, payload)
        elif kind == _RESET:
            self._end(stream, int.from_bytes(payload, "big"))
        elif kind == _HEADERS and flags & _END_STREAM:
            self._end(stream, ENDED)

    def _take_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            key = int.from_bytes(payload[at : at + 2], "big")
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == _MAX_CONCURRENT_STREAMS:
                self.max_streams = value
            elif key == _INITIAL_WINDOW:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial_window
                self._initial_window = value
        self._unsent += _frame(_SETTINGS, _ACK, 0)

    def _end(self, stream: int, how: str | int) -> None:
        self.ended.setdefault(stream, how)
        self._windows.pop(stream, None)


def message_head(size: int) -> bytes:
    """Write what stands before a gRPC message: not compressed, and its size."""
    return b"\x00" + size.to_bytes(4, "big")


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def _plain_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    # Lengths below 127 take one byte; ours are.
    return b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields
    )
