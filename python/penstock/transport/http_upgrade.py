"""Bodies of requests that ask for another protocol (h2c), as Java's client sends them.

We stay with HTTP/1.1, as the client must accept. But the parser ends such a message after its
headers, takes what follows for the other protocol and leaves it to us: so a fresh parser reads the
body behind a head that is made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.transport.http_protocol import HttpProtocol


class ResumedBody:
    """Stands between a fresh parser and the protocol, and keeps the made-up head from it.

    Everything behind that head goes to the protocol: the body, its end, and further requests.
    """

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol = protocol
        self._made_up = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    @staticmethod
    def head(content_length: int, *, chunked: bool) -> bytes:
        """Write a head whose body is framed as the real one is."""
        framing = b"content-length: %d" % content_length
        if chunked:
            framing = b"transfer-encoding: chunked"
        return b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """Pass on the start of a further request."""
        if not self._made_up:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Pass on the URL of a further request."""
        if not self._made_up:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Pass on a header of a further request."""
        if not self._made_up:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass on the end of a further head; from the first one on, all heads are real."""
        if not self._made_up:
            self._protocol.on_headers_complete()
        self._made_up = False
