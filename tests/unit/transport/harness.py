"""A connection under test: bytes in, answers out, time by hand."""

from penstock.engine import Engine
from penstock.transport.http import capture_front
from penstock.transport.http_limits import HttpLimits
from penstock.transport.http_protocol import HttpProtocol
from support.fake_core import ENDPOINTS, FakeCore
from support.fake_transport import FakeTransport


class Connection:
    def __init__(
        self,
        core=None,
        *,
        front=None,
        peername=("192.0.2.7", 40000),
        prefixes=(),
        find_call=None,
        **limits,
    ):
        self.core = core or FakeCore()
        self.engine = Engine(self.core)
        self.time = 1000.0
        self.front = front or capture_front(
            self.engine,
            HttpLimits(**limits),
            ENDPOINTS,
            clock=lambda: self.time,
            prefixes=prefixes,
            find_call=find_call,
        )
        self.transport = FakeTransport(peername)
        self.protocol = HttpProtocol(self.front)
        self.protocol.connection_made(self.transport)

    def send(self, *pieces: bytes):
        for piece in pieces:
            self.protocol.data_received(piece)

    def finish(self, result=None):
        self.core.finish_all(result)
        self.engine.deliver()

    def pass_time(self, seconds):
        self.time += seconds
        self.front.tick()

    def answers(self):
        """Take the written answers apart: (status, headers, body) each."""
        return parse_answers(self.transport.take())

    def answer(self):
        answers = self.answers()
        assert len(answers) == 1, answers
        return answers[0]


def parse_answers(raw: bytes, *, to_head=False):
    answers = []
    while raw:
        head, separator, raw = raw.partition(b"\r\n\r\n")
        assert separator
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(field.split(": ", 1) for field in lines)
        status = int(line.split(" ")[1])
        size = 0 if to_head or status in {100, 204, 304} else int(headers["content-length"])
        answers.append((status, headers, raw[:size]))
        raw = raw[size:]
    return answers


def post(path="/batch/", body=b"{}", headers=()):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
