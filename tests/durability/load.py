"""Clients that behave like SDKs: a batch is sent again, unchanged, until it is answered."""

import contextlib
import http.client
import json
import random
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import grpc

from penstock._pb.penstock.v1 import ingest_pb2 as pb
from penstock.transport.grpc import METHOD
from support.server import RunningServer

TOKEN = "phc_durability"
EVENTS_PER_BATCH = 5

# A killed server leaves its clients without an answer; they must notice within the test's time.
REQUEST_TIMEOUT_SECONDS = 10.0

# Answered batches that a client may send once more: some seconds of them, so that their log files
# are mostly gone, and the events still in the shortest window of a test.
MAX_OLD_BATCHES = 50

# What a client hears from a server that is not there, or not able to take it: send it again.
_TRY_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


class ProblemError(Exception):
    """An answer that no client should get."""


@dataclass
class Sent:
    """What one client sent to one table, by event id."""

    table: str
    acknowledged: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    # Of batches that were answered: what was refused of them.
    refused: set[str] = field(default_factory=set)
    batches: int = 0
    # The last batches that were answered.
    old: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_OLD_BATCHES))


class HttpClient:
    """One connection, made anew after each failure."""

    table = "events"
    target = "/batch/"

    def __init__(self) -> None:
        self._connection: http.client.HTTPConnection | None = None
        self._server: RunningServer | None = None

    def send(self, server: RunningServer, body: bytes) -> bool:
        """Send one batch; whether it is stored. False: no answer, or a request to come back.

        Raises:
            ProblemError: It was answered otherwise.
        """
        try:
            status, text = self._post(server, body)
        except (OSError, http.client.HTTPException):
            # The events may be stored or not; only a repeat can tell.
            self.close()
            return False
        if status == 200 and text == b'{"status":"Ok"}':
            return True
        if status != 503:
            raise ProblemError(f"{status} {text!r}")
        return False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _post(self, server: RunningServer, body: bytes) -> tuple[int, bytes]:
        if self._connection is None or self._server is not server:
            self.close()
            self._server = server
            self._connection = http.client.HTTPConnection(
                *server.http, timeout=REQUEST_TIMEOUT_SECONDS
            )
        self._connection.request("POST", self.target, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        text = response.read()
        if response.will_close:
            self.close()
        return response.status, text


class ReplayClient(HttpClient):
    """The same, with uploads of session replay."""

    table = "recordings"
    target = "/s/"


class GrpcClient:
    """One channel to each server."""

    table = "events"

    def __init__(self) -> None:
        self._channel: grpc.Channel | None = None
        self._server: RunningServer | None = None

    def send(self, server: RunningServer, body: bytes) -> bool:
        """As of `HttpClient`."""
        if self._channel is None or self._server is not server:
            self.close()
            self._server = server
            self._channel = grpc.insecure_channel(server.grpc_target)
        message = pb.AppendRequest(body=body).SerializeToString()
        try:
            answer = self._channel.unary_unary(METHOD)(message, timeout=REQUEST_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            if error.code() not in _TRY_AGAIN:
                raise ProblemError(f"{error.code()} {error.details()}") from error
            return False
        response = pb.AppendResponse.FromString(answer)
        rejected = [one for one in response.exceptions if one.outcome == pb.OUTCOME_REJECTED]
        taken = response.accepted + response.duplicates
        if taken != EVENTS_PER_BATCH or len(rejected) > 1:
            raise ProblemError(f"{response}")
        return True

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None


class Clients:
    """Threads that send batches until told to stop; the server may be another one meanwhile.

    With `refused`, each batch holds one more event that is refused: a row of `rejected`. With
    `repeats`, some are batches that were answered before, as if the answer had been lost. The
    events are of so many days: a file each in a commit. Each client pauses between its batches.
    `before` is what other clients, which have ended, sent to the same data: it is held against the
    tables, and repeated, as if these had sent it.
    """

    def __init__(
        self,
        server: RunningServer,
        *,
        seed: int,
        over_http: int = 0,
        over_grpc: int = 0,
        over_replay: int = 0,
        max_padding_bytes: int = 3_000,
        refused: bool = False,
        repeats: bool = False,
        days: int = 3,
        pause_seconds: float = 0.0,
        before: Sequence[Sent] = (),
    ) -> None:
        self._server = server
        self._max_padding_bytes = max_padding_bytes
        self._refused = refused
        self._repeats = repeats
        self._days = days
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._up = threading.Event()
        self._up.set()
        self._progress = threading.Condition()
        self.problems: list[str] = []
        makers: list[type[HttpClient | GrpcClient]] = [
            *[HttpClient] * over_http,
            *[GrpcClient] * over_grpc,
            *[ReplayClient] * over_replay,
        ]
        own = [Sent(make.table) for make in makers]
        for sent in own:
            sent.old.extend(body for one in before if one.table == sent.table for body in one.old)
        self.sent = [*before, *own]
        self._threads = [
            threading.Thread(target=self._run, args=(make, sent, random.Random(seed + index)))
            for index, (make, sent) in enumerate(zip(makers, own, strict=True))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def server_is_gone(self) -> None:
        """Wait with the next try until the server is said to be back."""
        self._up.clear()

    def server_is_back(self, server: RunningServer) -> None:
        """Go on with another server on the same data."""
        self._server = server
        self._up.set()

    def stop(self) -> None:
        """End after the batch under way is answered; call it while a server runs."""
        self._stop.set()
        self._up.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a client hangs"

    def wait_for_batches(self, more: int) -> None:
        """Wait until so many more batches are acknowledged."""
        with self._progress:
            wanted = self.batches() + more
            arrived = self._progress.wait_for(lambda: self.batches() >= wanted, timeout=45)
        assert arrived, f"no progress: {self.problems[:3]}"

    def batches(self) -> int:
        """Count the acknowledged batches."""
        return sum(sent.batches for sent in self.sent)

    def tables(self) -> set[str]:
        """Tables that something was sent to."""
        return {sent.table for sent in self.sent}

    def acknowledged(self, table: str = "events") -> set[str]:
        """Ids of every event of a table whose batch was answered as stored."""
        return set().union(*(sent.acknowledged for sent in self.sent if sent.table == table))

    def refused(self) -> set[str]:
        """Ids of the refused events of every batch that was answered, if it had some."""
        return set().union(*(sent.refused for sent in self.sent)) if self._refused else set()

    def unanswered(self, table: str = "events") -> set[str]:
        """Ids of events of a table that were sent and never answered."""
        sent = (sent.unanswered for sent in self.sent if sent.table == table)
        return set().union(*sent) - self.acknowledged(table)

    def _run(self, make: type[HttpClient | GrpcClient], sent: Sent, chance: random.Random) -> None:
        with contextlib.closing(make()) as client:
            while not self._stop.is_set():
                if self._repeats and sent.old and chance.random() < 0.25:
                    # Its events are stored, so whatever comes of it changes nothing (DUP-1).
                    self._deliver(client, chance.choice(sent.old), 1)
                *ids, refused_id = [
                    str(uuid.UUID(int=chance.getrandbits(128), version=4))
                    for _ in range(EVENTS_PER_BATCH + 1)
                ]
                write = self._snapshots if sent.table == "recordings" else self._body
                body = write(ids, refused_id, chance)
                sent.unanswered.update(ids)
                # Every fourth batch is given up when it fails: the client went away.
                tries = 1 if chance.random() < 0.25 else 1_000
                if self._deliver(client, body, tries):
                    sent.acknowledged.update(ids)
                    sent.refused.add(refused_id)
                    sent.old.append(body)
                    with self._progress:
                        sent.batches += 1
                        self._progress.notify_all()
                self._stop.wait(self._pause_seconds)

    def _deliver(self, client: HttpClient | GrpcClient, body: bytes, tries: int) -> bool:
        for _ in range(tries):
            self._up.wait(60)
            try:
                if client.send(self._server, body):
                    return True
            except ProblemError as error:
                self.problems.append(str(error))
                return False
            # Less patient than an SDK, so that tests end; enough that nobody spins.
            threading.Event().wait(0.02)
        return False

    def _body(self, ids: list[str], refused_id: str, chance: random.Random) -> bytes:
        events = [
            {
                "uuid": event_id,
                "event": "durable",
                "distinct_id": f"user-{chance.randrange(50)}",
                "timestamp": f"2026-11-{chance.randrange(1, 1 + self._days):02}T12:00:00Z",
                "properties": {"padding": "x" * chance.randrange(self._max_padding_bytes)},
            }
            for event_id in ids
        ]
        if self._refused:
            events.append({"uuid": refused_id, "event": "", "distinct_id": ids[0]})
        return json.dumps({"api_key": TOKEN, "batch": events}).encode()

    def _snapshots(self, ids: list[str], refused_id: str, chance: random.Random) -> bytes:
        session = {"token": TOKEN, "$session_id": f"session-{chance.randrange(50)}"}
        snapshots = [
            {
                "uuid": event_id,
                "event": "$snapshot",
                "distinct_id": f"user-{chance.randrange(50)}",
                "timestamp": f"2026-11-{chance.randrange(1, 1 + self._days):02}T12:00:00Z",
                "properties": session
                | {"$snapshot_data": ["x" * chance.randrange(self._max_padding_bytes)]},
            }
            for event_id in ids
        ]
        if self._refused:
            nothing = {"token": TOKEN, "$snapshot_data": []}
            snapshots.append({"uuid": refused_id, "distinct_id": ids[0], "properties": nothing})
        return json.dumps(snapshots).encode()
