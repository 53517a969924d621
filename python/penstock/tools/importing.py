"""Takes records of other logs into a data directory whose server is stopped, each exactly once.

A record keeps everything that was decided when it was taken: time of receipt, project, made ids,
refusals. It gets a place in this directory's log, and goes the way of any other from there.

Once: a batch is appended and synced, then its mark is (`import_marks.py`), then the log's rows may
be committed and let go. So after a crash in between, what was appended and not marked is still in
the log, and is known by its identity.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec

from penstock.config import Settings, engine_options
from penstock.errors import DataDirectoryError, PenstockError
from penstock.tools.import_marks import Marks, read_marks, write_marks
from penstock.tools.log_view import LAST_POSITION, RecordLike, core_errors, log_spans

if TYPE_CHECKING:
    from penstock import _core
    from penstock.table.committer import Committer

# What is appended between two marks: enough to share syncs, little enough to be held in memory.
BATCH_RECORDS: Final = 256
BATCH_BYTES: Final = 8 << 20

# A disk that is full, or a table that is out of reach: whoever needs longer starts again.
MAX_WAIT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05

_HOLD: Final = "records are being imported"


class ImportStoppedError(PenstockError):
    """The rest was not taken; doing the same again goes on from there."""


@dataclass(slots=True)
class Imported:
    """What became of the records.

    Attributes:
        records: Taken in.
        known: Taken in by an earlier run.
        events: Accepted events of those taken in.
        duplicates: Events of them that this directory has already, or that were some before.
        unreadable: (position, why) of records that were passed over.
        last_position: The last that was done.
    """

    records: int = 0
    known: int = 0
    events: int = 0
    duplicates: int = 0
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    last_position: int | None = None


class ImportTarget:
    """A data directory, opened as its server opens it, with the committer at work.

    Raises:
        DataDirectoryError: Its server runs, or it is none and can't be made one.
        PenstockError: Its tables are not as they were left.
    """

    def __init__(self, data_dir: Path, settings: Settings) -> None:
        from penstock import _core  # noqa: PLC0415 - the command line is read without the core
        from penstock.table.committer import Committer  # noqa: PLC0415 - slow to import

        if not data_dir.is_dir():
            # Not made here: it may be a service's address with its scheme left out.
            raise DataDirectoryError(
                "data_directory_unusable",
                f"{data_dir} is no directory, nor a URL such as http://127.0.0.1:8000",
            )
        self.data_dir = data_dir
        self._marks = Marks()
        # Identity of each record of the log that was looked at, with its places.
        self._known: dict[str, list[tuple[str, int]]] = {}
        self._done: set[str] = set()
        with core_errors():
            self._core = _core.Engine(
                engine_options(msgspec.structs.replace(settings, data_dir=data_dir))
            )
        try:
            self._committer: Committer = Committer(self._core, data_dir)
            committed = self._committer.open()
            self._check_not_held()
            self._marks = self._read_marks()
            self._done = set(self._marks.done)
            self._look_from(self._marks.end + 1)
            self._core.start(committed)
            self._committer.start()
        except BaseException:
            self._core.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._committer.stop(MAX_WAIT_SECONDS)
        self._core.close()

    def take(self, records: Iterable[RecordLike]) -> Imported:
        """Take in all records that are not here already, in order, and commit them.

        Durability: on return all are in the log, synced and marked; mostly in the tables too.

        Raises:
            ImportStoppedError: The storage, or the table, did not let us.
        """
        result = Imported()
        for batch in _batches(records):
            self._take_batch(batch, result)
        self.finish()
        return result

    def take_one(
        self, record: RecordLike, stored: Sequence[int], *, believe_window: bool
    ) -> _core.SubmitResult:
        """Take in one record without a mark; see `_core.Engine.import_record`.

        Raises:
            ImportStoppedError: As of `take`.
            PenstockError: It does not give the events that were taken.
        """
        (answer,) = self._append([record], stored, believe_window=believe_window).values()
        return answer

    def has(self, record: RecordLike) -> bool:
        """Tell whether the log, as far as it was looked at, has the record at another place."""
        identity = record.identity
        if identity is None:
            return False
        places = self._known.get(identity, [])
        return identity in self._done or any(
            place != (record.lane, record.position) for place in places
        )

    def look_at_whole_log(self) -> None:
        """Have `has` know all of the log. Cost: reads it, undecoded."""
        self._look_from(1)

    def _take_batch(self, batch: Sequence[RecordLike], result: Imported) -> None:
        wanted: list[RecordLike] = []
        here: list[RecordLike] = []
        for record in batch:
            if self.has(record) or self._marks.covers(record.lane, record.position):
                result.known += 1
                here.append(record)
            elif record.problem is not None:
                result.unreadable.append((record.position, record.problem))
            else:
                wanted.append(record)
                here.append(record)
        if not wanted:
            self._cover(here)
        else:
            # Nothing that is not marked yet may leave the log.
            self._core.hold_commits(_HOLD)
            answers = self._append(wanted, (), believe_window=True)
            self._marks.end = max(answer.log_position for answer in answers.values())
            self._cover(here)
            self._marks.done = []
            write_marks(self.data_dir, self._marks)
            self._core.hold_commits(None)
            for answer in answers.values():
                result.records += 1
                result.events += answer.accepted
                result.duplicates += answer.duplicates
        result.last_position = batch[-1].position

    def _cover(self, records: Sequence[RecordLike]) -> None:
        """Mark records, for the next time that the marks are written.

        Those as well that a run which was cut short has appended: the end of what is marked moves
        behind them, and nobody looks at the log before it again.
        """
        for record in records:
            self._marks.cover(record.lane, record.position)

    def _append(
        self, records: Sequence[RecordLike], stored: Sequence[int], *, believe_window: bool
    ) -> dict[int, _core.SubmitResult]:
        """Append records and wait until all are synced: index to answer."""
        from penstock import _core  # noqa: PLC0415 - as above

        done: dict[int, _core.SubmitResult] = {}
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while True:
            refused: _core.Refusal | None = None
            waiting = 0
            for index, record in enumerate(records):
                if index in done:
                    continue
                with core_errors():
                    answer = self._core.import_record(
                        index, record.context(), record.payload(), stored, believe_window
                    )
                if answer is None:
                    waiting += 1
                else:
                    refused = answer
            for ticket, result in self._finished(waiting):
                if isinstance(result, _core.SubmitResult) and result.log_position > 0:
                    assert isinstance(ticket, int)  # noqa: S101 - it is our own
                    done[ticket] = result
                elif isinstance(result, _core.Refusal):
                    refused = result
            if len(done) == len(records):
                return done
            code = "storage_failed" if refused is None else refused.code
            self._make_room(records, done, deadline, code)

    def _finished(self, count: int) -> Iterator[tuple[object, object]]:
        left = count
        while left:
            readable, _, _ = select.select([self._core.completion_fd], [], [], MAX_WAIT_SECONDS)
            if not readable:
                raise ImportStoppedError("import_stopped", "the log does not answer")
            for finished in self._core.drain():
                left -= 1
                yield finished

    def _make_room(
        self,
        records: Sequence[RecordLike],
        done: dict[int, _core.SubmitResult],
        deadline: float,
        code: str,
    ) -> None:
        """Let the log go on that refused records, with what it took of them marked one by one."""
        self._check_not_held()
        if time.monotonic() >= deadline:
            raise ImportStoppedError("import_stopped", f"the log takes nothing more: {code}")
        self._marks.done = [
            identity for index in done if (identity := records[index].identity) is not None
        ]
        write_marks(self.data_dir, self._marks)
        self._core.hold_commits(None)
        self._core.flush()
        time.sleep(_POLL_SECONDS)

    def finish(self) -> None:
        """Wait until the tables have what was taken in; what they don't get in time is in the log.

        Raises:
            PenstockError: A table is not as it was left.
        """
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        self._core.flush()
        while self._core.backlog[0] > 0 and time.monotonic() < deadline:
            self._check_not_held()
            time.sleep(_POLL_SECONDS)
            self._core.flush()

    def _check_not_held(self) -> None:
        if self._committer.held is not None:
            raise PenstockError(
                "commits_held",
                f"the tables of {self.data_dir} are not as they were left: {self._committer.held}; "
                "see penstock table info",
            )

    def _read_marks(self) -> Marks:
        marks = read_marks(self.data_dir)
        if marks is None:
            # From now on, what was taken in and is not marked stands behind this end of the log.
            marks = Marks(end=max((last for _, _, last in log_spans(self.data_dir)), default=0))
            write_marks(self.data_dir, marks)
        return marks

    def _look_from(self, first: int) -> None:
        from penstock import _core  # noqa: PLC0415 - as above

        self._known.clear()
        with core_errors():
            reader = _core.LogReader(str(self.data_dir), first, LAST_POSITION)
            while (records := reader.next_records(decode=False)) is not None:
                for one in records:
                    if one.identity is not None:
                        self._known.setdefault(one.identity, []).append((one.lane, one.position))


def _batches(records: Iterable[RecordLike]) -> Iterator[list[RecordLike]]:
    batch: list[RecordLike] = []
    size = 0
    for record in records:
        batch.append(record)
        size += record.payload_bytes
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def is_url(into: str) -> bool:
    """Tell a service from a data directory."""
    return "://" in into
