"""A transport that remembers what was done to it."""

import asyncio


class FakeTransport(asyncio.Transport):
    def __init__(self, peername=("192.0.2.7", 40000)):
        super().__init__()
        self.peername = peername
        self.written = b""
        self.writes = 0
        self.closed = False
        self.aborted = False
        self.eof_written = False
        self.reading = True

    def get_extra_info(self, name, default=None):
        return self.peername if name == "peername" else default

    def write(self, data):
        assert not self.closed
        self.written += data
        self.writes += 1

    def take(self):
        written, self.written = self.written, b""
        return written

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True

    def is_closing(self):
        return self.closed

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.eof_written = True

    def pause_reading(self):
        assert self.reading
        self.reading = False

    def resume_reading(self):
        assert not self.reading
        self.reading = True
