"""The committer: one thread that commits the core's cuts to the tables, and lets the log go.

It never stands in the way of an acknowledgement: whatever happens here, events go on being stored
in the log, and a cut that can't be committed is tried again until it can.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from penstock.logs import logger
from penstock.table import orphans
from penstock.table.crash_points import crash_point
from penstock.table.errors import CutFilesLostError, HoldCommitsError, passes_by_itself
from penstock.table.log_table import LogTable
from penstock.table.metrics import CommitterMetrics, TableCounts
from penstock.table.note import Note, TableNote, decode, encode, newest_lanes
from penstock.table.ranges import Range, ranges_text, within
from penstock.table.redaction import describe, place
from penstock.table.schema import TABLES, TableSchema, core_schema

if TYPE_CHECKING:
    from penstock.table.checks import SegmentFileLike

_log = logger("table")

# How long the thread waits for a cut before it looks whether it is to stop.
CUT_WAIT_MS: Final = 250
# First and longest wait before a failed cut is tried again. A short hiccup of the disk is over in
# the first; the longest keeps the log of errors readable.
FIRST_RETRY_SECONDS: Final = 0.25
LAST_RETRY_SECONDS: Final = 15.0

NOT_OPEN: Final = "table_not_open"
"""Code of a hold that ends by itself: a table could not be opened yet."""

ADOPTABLE: Final = frozenset(
    {
        "note_unreadable",
        "table_missing",
        "table_replaced",
        "table_went_back",
        "transaction_missing",
        "table_damaged",
    }
)
"""Holds in which a person has to say what is true (`adoption.py`); others end with a restart."""


class CutLike(Protocol):
    """What is read of `_core.Cut`."""

    @property
    def position(self) -> int:
        """Position up to which it reaches."""

    @property
    def lanes(self) -> list[tuple[str, int]]:
        """(lane, position) to commit."""

    @property
    def files(self) -> Mapping[str, Sequence[SegmentFileLike]]:
        """Files of each table."""

    @property
    def releases(self) -> bool:
        """Whether a log file could go."""


class CommitCore(Protocol):
    """The part of `_core.Engine` that the committer needs."""

    def lanes(self) -> list[tuple[str, int, int]]:
        """(lane, first, last position) in the log."""

    def table_note(self) -> bytes | None:
        """The note last given to `cut_committed`."""

    def hold_commits(self, reason: str | None) -> None:
        """Make no cut and release nothing."""

    def next_cut(self, timeout_ms: int) -> CutLike | None:
        """Wait for a cut."""

    def cut_committed(self, position: int, committed: Mapping[str, int], note: bytes) -> None:
        """Say that a cut is durable in the tables."""

    def discard_cut(self, position: int) -> None:
        """Drop a cut that can't be committed: its rows are built again from the log."""


class Committer:
    """Commits to the tables below one data directory. Opened once; one thread."""

    def __init__(
        self,
        core: CommitCore,
        data_dir: Path,
        *,
        schema_of: Callable[[str], TableSchema] = core_schema,
        first_retry_seconds: float = FIRST_RETRY_SECONDS,
    ) -> None:
        self._core = core
        # Absolute: the service may change its working directory, and the library wants it so.
        self._data_dir = data_dir.absolute()
        self._schema_of = schema_of
        self._first_retry_seconds = first_retry_seconds
        self._tables: dict[str, LogTable] = {}
        # Tables that could not be opened yet, by what kept them from it, as far as it may pass.
        self._unopened: dict[str, BaseException] = {}
        self._lanes: list[str] = []
        # (lane, first, last) in the log at the start.
        self._spans: list[tuple[str, int, int]] = []
        # What the core starts with: it never builds rows again that this says are committed.
        self._told: dict[str, dict[str, int]] = {}
        self._note = Note()
        self._held: str | None = None
        self._failing: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._metrics = CommitterMetrics(tables={name: TableCounts() for name in TABLES})

    @property
    def held(self) -> str | None:
        """Why no commits are made; None if they are."""
        if self._held is None and self._unopened:
            return NOT_OPEN
        return self._held

    @property
    def failing(self) -> str | None:
        """What the newest cut is failing with, by the name of the exception; None: nothing."""
        return self._failing

    def open(self) -> dict[str, dict[str, int]]:
        """Open or create the tables, before the core is started.

        A table that is not as we left it holds commits and nothing else: events go on being
        acknowledged, and wait in the log. One that can't be opened for the moment holds them until
        the thread has opened it.

        Returns:
            Table to lane to the position that is committed, and synced.
        """
        spans = self._spans = self._core.lanes()
        self._lanes = [lane for lane, _, _ in spans]
        try:
            self._note = decode(self._core.table_note())
        except Exception as error:  # noqa: BLE001 - it can't be read, or is not ours
            # Without it nobody knows what has left the log: nothing may be mended or made anew.
            self._hold("note_unreadable", describe(error))
            return {name: {} for name in TABLES}
        for name in TABLES:
            self._tables[name] = LogTable(self._data_dir, self._schema_of(name))
            noted = self._note.tables.get(name)
            self._told[name] = dict(noted.txns) if noted else {}
            try:
                self._told[name] = self._open_table(name)
            except HoldCommitsError as error:
                self._hold(error.code, str(error), name, error.missing)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - panics of the library are not Exceptions
                self._cannot_open(name, error)
        if self.held is None:
            self._sweep(spans)
        elif self._held is None:
            self._core.hold_commits(f"{NOT_OPEN}: {', '.join(self._unopened)}")
        crash_point("tables_opened")
        return {name: dict(committed) for name, committed in self._told.items()}

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Stop after the commit that is under way, or leave it behind at the timeout.

        A commit that is left behind is found by the next start, landed or not.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                _log.warning("committer_left_behind", waited_seconds=timeout_seconds)

    def metrics(self) -> str:
        """Give Prometheus text."""
        return self._metrics.text()

    def commit_cut(self, cut: CutLike) -> None:
        """Commit one cut to all tables that need it, then tell the core (TAB-3).

        Raises:
            CutFilesLostError: It can't be committed, and was not to any table in this call.
            CommitFailedError: Call again with the same cut.
            HoldCommitsError: A table is not as we left it.
        """
        began = time.monotonic()
        txns = dict(cut.lanes)
        self._check_files(cut, txns)
        committed: dict[str, int] = {}
        for name, table in self._tables.items():
            files = cut.files.get(name, ())
            if files or cut.releases:
                if committed:
                    crash_point("cut_half_committed")
                self._commit_to(table, files, txns)
                committed[name] = cut.position
        crash_point("cut_in_tables")
        self._note = self._note_with(txns)
        self._core.cut_committed(cut.position, committed, encode(self._note))
        self._metrics.cuts += 1
        self._metrics.commit_seconds += time.monotonic() - began
        for name in committed:
            if self._tables[name].checkpoint_if_due():
                self._metrics.tables[name].checkpoints += 1

    def _commit_to(
        self, table: LogTable, files: Sequence[SegmentFileLike], txns: Mapping[str, int]
    ) -> None:
        if not table.commit(files, txns):
            return
        counts = self._metrics.tables[table.name]
        counts.commits += 1
        counts.files += len(files)
        counts.rows += sum(file.rows for file in files)
        counts.bytes += sum(file.size_bytes for file in files)
        counts.version = table.version

    def _check_files(self, cut: CutLike, txns: Mapping[str, int]) -> None:
        """Check all files before any table has the cut: half committed, it could not be dropped."""
        if any(table.in_doubt for table in self._tables.values()):
            return
        for name, table in self._tables.items():
            if not table.has(txns):
                table.check(cut.files.get(name, ()))

    def _discard(self, cut: CutLike, error: CutFilesLostError) -> None:
        """Have a cut built anew whose files are lost."""
        txns = dict(cut.lanes)
        if any(table.has(txns) for name, table in self._tables.items() if cut.files.get(name)):
            # Built anew, it would bring the rows of that table once more.
            raise HoldCommitsError(
                "cut_half_lost",
                f"{error}, and another table has this cut; a restart builds what is missing",
            ) from error
        self._core.discard_cut(cut.position)
        self._metrics.cuts_discarded += 1
        _log.warning("cut_discarded", position=cut.position, reason=str(error))

    def _note_with(self, txns: Mapping[str, int]) -> Note:
        tables: dict[str, TableNote] = {}
        for name, table in self._tables.items():
            if not table.made:
                continue
            earlier = self._note.tables.get(name)
            its = dict(earlier.txns) if earlier else {}
            passed = {lane: table.passed(lane) for lane in {*its, *txns}}
            its |= {lane: position for lane, position in passed.items() if position is not None}
            tables[name] = TableNote(table.table_id, table.version, newest_lanes(its))
        complete = dict(self._note.complete)
        for lane, position in txns.items():
            # After a restart cuts may begin below: a table without rows has no transaction.
            complete[lane] = max(position, complete.get(lane, -1))
        return Note(tables, complete=newest_lanes(complete))

    def _run(self) -> None:
        retry_seconds = self._first_retry_seconds
        while not self._stopping.is_set():
            if self._held is not None:
                self._stopping.wait(CUT_WAIT_MS / 1000)
                continue
            try:
                self._step()
            except HoldCommitsError as error:
                self._metrics.failures += 1
                self._hold(error.code, str(error))
            except BaseException as error:  # noqa: BLE001 - panics of libraries are not Exceptions
                self._failing = type(error).__name__
                self._metrics.failures += 1
                _log.error(
                    "commit_failed",
                    error=describe(error),
                    at=place(error),
                    retry_seconds=retry_seconds,
                )
                self._stopping.wait(retry_seconds)
                retry_seconds = min(retry_seconds * 2, LAST_RETRY_SECONDS)
            else:
                self._failing = None
                retry_seconds = self._first_retry_seconds

    def _step(self) -> None:
        """Open what is not open yet, then commit one cut, if there is one.

        The core gives a cut again until it was committed or discarded: it is never dropped (TAB-1).
        """
        self._open_rest()
        cut = self._core.next_cut(CUT_WAIT_MS)
        if cut is None:
            return
        try:
            self.commit_cut(cut)
        except CutFilesLostError as error:
            self._discard(cut, error)
            # As any failure: whoever takes files away may do so again.
            raise

    def _open_table(self, name: str) -> dict[str, int]:
        table = self._tables[name]
        committed = table.open(self._note.tables.get(name), self._lanes)
        self._metrics.tables[name].version = max(0, table.version)
        return committed

    def _cannot_open(self, name: str, error: BaseException) -> None:
        if not passes_by_itself(error):
            self._hold("table_unreadable", f"{name}: {describe(error)}", name)
            return
        self._unopened[name] = error
        self._metrics.held = True
        _log.error("table_not_opened", table=name, error=describe(error), at=place(error))

    def _open_rest(self) -> None:
        """Open the tables that could not be opened at the start.

        The core runs by then, with what the note said of them. A commit that landed without being
        noted can't be told to it any more, and its rows would be built once more: only a restart
        helps (TAB-1).
        """
        for name in list(self._unopened):
            committed = self._open_table(name)
            if committed != self._told[name]:
                raise HoldCommitsError(
                    "restart_needed",
                    f"{name}: opened late, it has more than was known at the start; "
                    "a restart goes on from there",
                )
            del self._unopened[name]
            _log.info("table_opened_late", table=name)
            if not self._unopened:
                self._metrics.held = False
                self._core.hold_commits(None)

    def _sweep(self, spans: Sequence[tuple[str, int, int]]) -> None:
        """Remove what a crash left: the core builds those rows again, under new names."""
        for name, table in self._tables.items():
            try:
                swept = orphans.sweep(table, spans)
            except OSError as error:
                # They only take room; the next start tries again.
                _log.warning("orphans_not_removed", table=name, error=describe(error))
                continue
            if swept.files:
                self._metrics.orphans_removed += swept.files
                _log.info("orphans_removed", table=name, files=swept.files, bytes=swept.size_bytes)

    def _hold(
        self, code: str, message: str, table: str | None = None, missing: Sequence[Range] = ()
    ) -> None:
        """Stop committing and releasing; acknowledging goes on."""
        if self._held is None:
            self._held = code
        self._metrics.held = True
        if table is not None:
            counts = self._metrics.tables[table]
            counts.held = code
            counts.missing_positions = sum(one.positions for one in missing)
        self._core.hold_commits(f"{code}: {message}")
        details: dict[str, object] = {}
        if missing:
            details["missing"] = ranges_text(missing)
            details["still_in_log"] = ranges_text(within(missing, self._spans)) or "nothing"
        if code in ADOPTABLE:
            details["advice"] = "look with penstock table info, decide with penstock table adopt"
        _log.error("commits_held", code=code, reason=message, **details)
