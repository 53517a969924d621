"""One table: opened after checking its log, committed to exactly once, synced by us.

The library syncs nothing, checks no action, and may raise after a commit has landed. So:

- A commit counts when its log entry, the log's directory and the directories of its files are
  synced here (TAB-2); the call does not say which version it made, so every entry above the last
  synced one is. Linux tells of a failed write once, so what may have met one is written again
  (`durable.py`).
- Each commit carries a transaction for each lane (app id = lane, version = position). It is checked
  and committed on the same table object, updated before: a writer in between makes it fail.
- After any exception a new object is opened, everything that it reads is synced, and its
  transactions decide whether the commit landed (TAB-1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
)
from deltalake.transaction import AddAction

from penstock.logs import logger
from penstock.table.checks import SegmentFileLike, check_files
from penstock.table.crash_points import crash_point
from penstock.table.durable import sync_directories_up_to, sync_file
from penstock.table.errors import (
    CommitFailedError,
    CutFilesLostError,
    HoldCommitsError,
    passes_by_itself,
)
from penstock.table.log_files import (
    LAST_CHECKPOINT,
    TRANSACTIONS_KEY,
    EntryIdentity,
    LogFiles,
)
from penstock.table.ranges import missing_ranges, ranges_text
from penstock.table.redaction import describe
from penstock.table.schema import TableSchema, column_types

if TYPE_CHECKING:
    from penstock.table.note import TableNote

_log = logger("table")

# A commit costs about 0.2 ms for each entry since the checkpoint (measured); at 50 that is 10 ms.
CHECKPOINT_EVERY: Final = 50

# Blind appends of other writers are passed by; one that carries our lane makes the commit fail.
MAX_COMMIT_RETRIES: Final = 5

# Entries behind a checkpoint are for time travel alone. At one commit in 5 s a day makes 17,280,
# which still lists in milliseconds.
LOG_RETENTION: Final = "interval 1 days"

_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class _Unreadable(Exception):  # noqa: N818 - never leaves this module; the cause says why
    """The library can't make sense of the table."""


class LogTable:
    """One Delta table below the data directory. Used by one thread at a time.

    Attributes:
        name: Of the table and of its folder: one of `schema.TABLES`.
    """

    def __init__(self, data_dir: Path, schema: TableSchema) -> None:
        self.name = schema.name
        self._schema = schema
        self._data_dir = data_dir
        self._directory = data_dir / schema.name
        self._files = LogFiles(self._directory)
        self._table: DeltaTable | None = None
        self._made = True
        self._synced_version = -1
        self._checkpoint_version = -1
        self._table_id = ""
        self._expected: dict[str, int] = {}
        # The newest synced entry, as it lay on disk.
        self._tip: EntryIdentity | None = None

    @property
    def directory(self) -> Path:
        """The table's folder."""
        return self._directory

    @property
    def table_id(self) -> str:
        """Id that the table was given at its creation."""
        return self._table_id

    @property
    def made(self) -> bool:
        """Whether the table is there; one that is made late is not before its first row."""
        return self._made

    @property
    def version(self) -> int:
        """Newest version, all of which is synced."""
        return self._synced_version

    def open(self, note: TableNote | None, lanes: Iterable[str]) -> dict[str, int]:
        """Open the table, or create it, and give the position passed by each lane.

        One that is made late is left for its first row, and has passed nothing.

        Durability: all that the answer rests on is synced.

        Args:
            note: What the log's note says of this table.
            lanes: The lanes with records in the log.

        Raises:
            HoldCommitsError: The table is not as we left it.
            OSError: The file system did not let us; call again later.
        """
        self._table = None
        self._synced_version = -1
        self._made = True
        if not self._is_there() and note is not None:
            raise HoldCommitsError(
                "table_missing",
                f"{self.name}: the table is gone",
                missing_ranges(note.txns, {}),
            )
        if not self._is_there() and not self._schema.made_at_start:
            self._made = False
            return {}
        return self._open_or_create(note, lanes)

    def open_or_make(self, lanes: Iterable[str]) -> dict[str, int]:
        """Open the table as it is, or create it now, also one that is made late; as `open`."""
        self._table = None
        self._synced_version = -1
        self._made = True
        return self._open_or_create(None, lanes)

    def _is_there(self) -> bool:
        return bool(self._files.entries() or self._files.checkpoints())

    def _open_or_create(self, note: TableNote | None, lanes: Iterable[str]) -> dict[str, int]:
        if not self._is_there():
            self._create()
        self._mend(note)
        if not self._is_there():
            # The very creation was torn: there was nothing in it.
            self._create()
        table = self._open_whole(note)
        self._table_id = str(table.metadata().id)
        self._check_schema(table)
        in_log = set(lanes)
        seen = self._transactions(table, in_log | set(note.txns if note else ()))
        if note is not None:
            self._compare(table, note, seen)
        # Each look at a transaction costs about a millisecond (measured), and one comes with each
        # restart: those that left the log get no rows any more and need not be looked at again.
        self._expected = {lane: seen[lane] for lane in seen if lane in in_log}
        return seen

    def passed(self, lane: str) -> int | None:
        """Position up to which rows of a lane of the log are committed and synced."""
        return self._expected.get(lane)

    def has(self, txns: Mapping[str, int]) -> bool:
        """Tell whether a cut is known to be committed."""
        return all(self._expected.get(lane, -1) >= to for lane, to in txns.items())

    @property
    def in_doubt(self) -> bool:
        """Whether the last commit may have landed; the next one finds out."""
        return self._made and self._table is None

    def check(self, files: Sequence[SegmentFileLike]) -> None:
        """Check the files of a cut before any table commits it.

        Raises:
            CutFilesLostError: The cut can never be committed.
            CommitFailedError: A file must not be named by the table.
        """
        check_files(self._directory, self._schema, files)

    def file_names(self) -> set[str]:
        """Give the names, without folders, of all files that the newest version names."""
        if not self._made:
            return set()
        assert self._table is not None, "only right after opening"  # noqa: S101 - a bug
        return {PurePosixPath(uri).name for uri in self._table.file_uris()}

    def commit(self, files: Sequence[SegmentFileLike], txns: Mapping[str, int]) -> bool:
        """Commit the rows of one cut, or the transactions alone, exactly once (TAB-1).

        Durability: once this returns, the commit survives a power cut. Giving the same cut again
        does nothing.

        Args:
            files: Synced files that hold all rows of the cut for this table.
            txns: Lane to position, for every lane with a position in the cut.

        Returns:
            Whether a commit was made; False if the table had it already, or is to be made with its
            first row and this cut has none.

        Raises:
            CutFilesLostError: A file is gone: this cut can never be committed.
            CommitFailedError: It did not land, or that is not known; call again with the same.
            HoldCommitsError: The table is not as we left it, has rows of these files already, or
                names a file that was taken away meanwhile.
        """
        if not self._made and not files:
            return False
        try:
            if not self._made:
                self._open_or_create(None, txns)
                self._made = True
            table = self._table
            if table is not None and self._tip_was_replaced():
                # An update of the object would not notice a log that was set back below it.
                _log.warning("table_log_changed", table=self.name, version=self.version)
                self._table = table = None
            if table is None:
                table = self._reopen()
                self._settle(table, txns)
            else:
                table.update_incremental()
                self._check_unmoved(table, txns)
            wanted = {lane: to for lane, to in txns.items() if self._expected.get(lane, -1) < to}
            if not wanted:
                return False
            self._check_overlap(files, txns)
            times = check_files(self._directory, self._schema, files)
            leaves = {(self._directory / file.path).parent for file in files}
            sync_directories_up_to(leaves, self._data_dir)
        except (HoldCommitsError, CommitFailedError):
            raise
        except BaseException as error:
            self._table = None
            raise _failed(self.name) from error
        actions = [_action(file, time) for file, time in zip(files, times, strict=True)]
        self._write(table, actions, wanted)
        self._check_still_there(files)
        return True

    def checkpoint_if_due(self) -> bool:
        """Make a checkpoint after `CHECKPOINT_EVERY` commits: synced, read back, then logs cleaned.

        A failure is logged and tried again after the next commit: the table is whole without it.

        Commits go on from the object that was read back. An old one goes through all entries since
        the checkpoint that *it* was opened with, again with each commit and update (0.2 ms each,
        measured): after 500 commits, ten times the time and 40 MB more.
        """
        if self._table is None or self.version - self._checkpoint_version < CHECKPOINT_EVERY:
            return False
        try:
            crash_point("checkpoint_begun")
            self._table.create_checkpoint()
            crash_point("checkpoint_written")
            made = self._files.checkpoints().get(self.version, [])
            for path in made:
                sync_file(path)
            sync_file(self._files.directory / LAST_CHECKPOINT)
            self._files.sync_from(self.version)
            self._table = self._read_back()
            crash_point("checkpoint_synced")
            self._checkpoint_version = self.version
            # Only what is older than the retention and behind a checkpoint goes.
            self._table.cleanup_metadata()
            self._files.sync_from(self.version)
        except (HoldCommitsError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - panics of the library are not Exceptions
            _log.warning("checkpoint_failed", table=self.name, error=describe(error))
            # The object may hold half of it: the next commit opens a new one.
            self._table = None
            if isinstance(error, CommitFailedError):
                aside = self._files.move_checkpoint_aside(self.version)
                _log.warning("checkpoint_moved_aside", table=self.name, folder=aside)
            return False
        return True

    def _write(
        self, table: DeltaTable, actions: list[AddAction], wanted: Mapping[str, int]
    ) -> None:
        properties = CommitProperties(
            max_commit_retries=MAX_COMMIT_RETRIES,
            app_transactions=[Transaction(lane, position) for lane, position in wanted.items()],
            custom_metadata={TRANSACTIONS_KEY: str(len(wanted))},
        )
        try:
            crash_point("commit_begun")
            table.create_write_transaction(
                list(actions),
                mode="append",
                schema=Schema.from_json(self._schema.schema_json),
                partition_by=list(self._schema.partition_columns),
                commit_properties=properties,
                post_commithook_properties=_NO_HOOKS,
            )
            crash_point("commit_written")
            table.update_incremental()
            self._sync_new(table)
            if self._transactions(table, wanted) != dict(wanted):
                raise CommitFailedError("commit_not_seen", f"{self.name}: the commit is not there")  # noqa: TRY301 - handled as any doubt
        except HoldCommitsError:
            # The disk failed: what it says of the entry from now on is not to be believed.
            self._table = None
            raise
        except BaseException as error:
            # It may have landed all the same: a new object decides.
            self._table = None
            _log.warning("commit_in_doubt", table=self.name, error=describe(error))
            try:
                self._settle(self._reopen(), wanted)
            except HoldCommitsError:
                raise
            except BaseException as second:
                self._table = None
                raise _failed(self.name) from second
            if any(self._expected.get(lane) != to for lane, to in wanted.items()):
                raise _failed(self.name) from error
            _log.warning("commit_had_landed", table=self.name, version=self.version)
        else:
            self._expected.update(wanted)

    def _check_still_there(self, files: Sequence[SegmentFileLike]) -> None:
        """Notice files that somebody took away between our check and our commit.

        The log has their rows still; once it is told of the commit it has them no more.
        """
        try:
            check_files(self._directory, self._schema, files)
        except CutFilesLostError as error:
            first = min(file.first_position for file in files)
            last = max(file.last_position for file in files)
            raise HoldCommitsError(
                "committed_file_lost",
                f"{self.name}: {error}, and it is committed: somebody removes files that are not "
                f"an hour old. Rows of positions {first} to {last} are in the log until the next "
                "start: take them out of it before with penstock wal replay",
            ) from error

    def _settle(self, table: DeltaTable, txns: Mapping[str, int]) -> None:
        """After a doubt: find by the transactions whether the commit in doubt landed."""
        lanes = set(txns) | set(self._expected)
        seen = self._transactions(table, lanes)
        landed = {**self._expected}
        for lane, to in txns.items():
            landed[lane] = max(to, self._expected.get(lane, -1))
        if seen == landed:
            self._expected = landed
        elif seen != self._expected:
            raise self._moved(seen)

    def _check_unmoved(self, table: DeltaTable, txns: Mapping[str, int]) -> None:
        seen = self._transactions(table, set(txns) | set(self._expected))
        if seen != self._expected:
            raise self._moved(seen)
        self._check_is_ours(table)
        self._sync_new(table)

    def _check_is_ours(self, table: DeltaTable) -> None:
        if str(table.metadata().id) != self._table_id:
            raise HoldCommitsError("table_replaced", f"{self.name}: another table is in its place")
        self._check_schema(table)

    def _check_overlap(self, files: Sequence[SegmentFileLike], txns: Mapping[str, int]) -> None:
        """Check that no file has rows that the table has already, or rows beyond the cut.

        Positions grow from lane to lane (WAL-3): in a cut, each lane has those between the
        position of the lane before it and its own.
        """
        committed: list[tuple[int, int]] = []
        end = -1
        for lane, to in sorted(txns.items(), key=lambda item: item[1]):
            committed.append((end + 1, min(to, self._expected.get(lane, -1))))
            end = to
        for file in files:
            first, last = file.first_position, file.last_position
            overlaps = any(
                lower <= upper and first <= upper and lower <= last for lower, upper in committed
            )
            if overlaps or not first <= last <= end:
                raise HoldCommitsError(
                    "cut_overlaps",
                    f"{self.name}: a file has rows of positions {first} to {last}, the cut ends "
                    f"at {end}, and committed are {self._expected}",
                )

    def _moved(self, seen: Mapping[str, int]) -> HoldCommitsError:
        lanes = set(seen) | set(self._expected)
        changes = ", ".join(
            f"lane {lane} from {self._expected.get(lane)} to {seen.get(lane)}"
            for lane in sorted(lanes)
            if seen.get(lane) != self._expected.get(lane)
        )
        return HoldCommitsError(
            "transaction_moved", f"{self.name}: a transaction moved without us: {changes}"
        )

    def _transactions(self, table: DeltaTable, lanes: Iterable[str]) -> dict[str, int]:
        seen = ((lane, table.transaction_version(lane)) for lane in lanes)
        return {lane: position for lane, position in seen if position is not None}

    def _sync_new(self, table: DeltaTable) -> None:
        version = table.version()
        if version < self._synced_version:
            raise HoldCommitsError("table_went_back", f"{self.name}: at version {version}")
        if version > self._synced_version:
            self._files.sync_from(self._synced_version)
            self._remember(version)

    def _remember(self, version: int) -> None:
        self._synced_version = version
        self._tip = self._files.identity(version)

    def _tip_was_replaced(self) -> bool:
        return self._files.identity(self._synced_version) != self._tip

    def _reopen(self) -> DeltaTable:
        table = self._open_synced(self._synced_version)
        self._check_is_ours(table)
        return table

    def _open_whole(self, note: TableNote | None) -> DeltaTable:
        """Open the table, if need be without its newest checkpoint."""
        known_synced = -1 if note is None else note.version
        try:
            return self._open_and_read(known_synced)
        except _Unreadable as error:
            if not self._set_checkpoint_aside():
                raise self._unreadable(error) from error.__cause__
        self._mend(note)
        try:
            return self._open_and_read(known_synced)
        except _Unreadable as error:
            raise self._unreadable(error) from error.__cause__

    def _open_and_read(self, known_synced: int) -> DeltaTable:
        try:
            table = self._open_synced(known_synced)
            # Parts of a checkpoint are read only now.
            table.file_uris()
            table.transaction_version("")
        except (HoldCommitsError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._table = None
            if passes_by_itself(error):
                raise
            raise _Unreadable from error
        return table

    def _unreadable(self, error: _Unreadable) -> HoldCommitsError:
        cause = error.__cause__ or error
        return HoldCommitsError(
            "table_unreadable", f"{self.name}: the table can't be opened: {describe(cause)}"
        )

    def _set_checkpoint_aside(self) -> bool:
        """Move the newest checkpoint aside if the entries, from an older one on, are all there."""
        checkpoints = sorted(self._files.checkpoints())
        if not checkpoints:
            return False
        older = checkpoints[-2] if len(checkpoints) > 1 else 0
        if not self._files.reaches_back_to(older):
            return False
        aside = self._files.move_checkpoint_aside(checkpoints[-1])
        _log.warning(
            "unreadable_checkpoint_moved_aside",
            table=self.name,
            version=checkpoints[-1],
            folder=aside,
        )
        return True

    def _open_synced(self, known_synced: int) -> DeltaTable:
        """Sync all that an opening reads, then open: what is believed is durable."""
        before = self._synced_version
        self._files.sync_all_needed(known_synced)
        sync_directories_up_to([self._directory], self._data_dir)
        table = DeltaTable(self._directory)
        version = table.version()
        if version < before:
            raise HoldCommitsError(
                "table_went_back", f"{self.name}: from version {before} to {version}"
            )
        # Another writer may have added an entry since the sync.
        newest_checkpoint = self._files.newest_checkpoint()
        self._files.sync_from(version - 1)
        self._checkpoint_version = -1 if newest_checkpoint is None else newest_checkpoint
        self._remember(version)
        self._table = table
        return table

    def _create(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            self._directory,
            schema=Schema.from_json(self._schema.schema_json),
            partition_by=list(self._schema.partition_columns),
            name=self.name,
            configuration={"delta.logRetentionDuration": LOG_RETENTION},
            post_commithook_properties=_NO_HOOKS,
        )
        crash_point("table_created")
        self._files.sync_from(-1)
        sync_directories_up_to([self._directory], self._data_dir)
        _log.info("table_created", table=self.name)

    def _mend(self, note: TableNote | None) -> None:
        """Move aside what a power cut tore, as far as the log still holds it."""
        torn = self._files.torn_checkpoints()
        for version in torn:
            whole = [older for older in self._files.checkpoints() if older not in torn]
            if not self._files.reaches_back_to(max(whole, default=0)):
                raise HoldCommitsError(
                    "table_damaged", f"{self.name}: checkpoint {version} is damaged"
                )
            aside = self._files.move_checkpoint_aside(version)
            _log.warning(
                "torn_checkpoint_moved_aside", table=self.name, version=version, folder=aside
            )
        self._mend_entries(-1 if note is None else note.version)

    def _mend_entries(self, synced: int) -> None:
        """Move aside torn entries from the newest down to the first that is whole.

        Up to `synced` each was whole once, and rows of it may have left the log since. Below a
        whole entry, moving one aside would leave a hole; left there, its rows would be missing
        without a word: the library opens an empty entry as a version without actions.
        """
        newest_checkpoint = self._files.newest_checkpoint()
        start = -1 if newest_checkpoint is None else newest_checkpoint
        whole_above = False
        for version in reversed([entry for entry in self._files.entries() if entry > start]):
            if self._files.entry_is_whole(version):
                whole_above = True
                continue
            if whole_above or version <= synced:
                raise HoldCommitsError("table_damaged", f"{self.name}: entry {version} is damaged")
            aside = self._files.move_entry_aside(version)
            _log.warning("torn_entry_moved_aside", table=self.name, version=version, folder=aside)

    def _compare(self, table: DeltaTable, note: TableNote, txns: Mapping[str, int]) -> None:
        difference = differs_from_note(
            note, table_id=self._table_id, version=table.version(), txns=txns
        )
        if difference is not None:
            code, what = difference
            raise HoldCommitsError(code, f"{self.name}: {what}", missing_ranges(note.txns, txns))

    def _check_schema(self, table: DeltaTable) -> None:
        have = column_types(table.schema().to_json())
        partitions = tuple(table.metadata().partition_columns)
        for column, delta_type in column_types(self._schema.schema_json).items():
            if have.get(column) != delta_type:
                raise HoldCommitsError(
                    "schema_changed", f"{self.name}: column {column} is not ours"
                )
        if partitions != self._schema.partition_columns:
            raise HoldCommitsError("schema_changed", f"{self.name}: partitioned by {partitions}")

    def _read_back(self) -> DeltaTable:
        """Open the table through its new checkpoint and compare.

        It may have entries of another writer beyond ours, not synced: the next commit sees to them.
        """
        table = DeltaTable(self._directory)
        same = table.version() >= self.version and str(table.metadata().id) == self._table_id
        if not same or self._transactions(table, self._expected) != self._expected:
            raise CommitFailedError(
                "checkpoint_differs", f"{self.name}: checkpoint reads otherwise"
            )
        return table


def differs_from_note(
    note: TableNote, *, table_id: str, version: int, txns: Mapping[str, int]
) -> tuple[str, str] | None:
    """Tell whether a table went back or is another one: (code, sentence); None: it is as it was.

    Args:
        note: What it had passed when log files were last let go.
        table_id: Its id now.
        version: Its version now.
        txns: Its transactions now, of all lanes that the note names.
    """
    if note.id != table_id:
        return "table_replaced", "another table is in its place"
    if version < note.version:
        return "table_went_back", f"at version {version}, was at {note.version}"
    missing = missing_ranges(note.txns, txns)
    if missing:
        return (
            "transaction_missing",
            f"{ranges_text(missing)} were committed and are no longer there",
        )
    return None


def _action(file: SegmentFileLike, modified_ms: int) -> AddAction:
    return AddAction(
        # As on disk: the library encodes it once more for the log.
        path=file.path,
        size=file.size_bytes,
        partition_values=dict(file.partition_values),
        modification_time=modified_ms,
        data_change=True,
        stats=file.stats_json,
    )


def _failed(name: str) -> CommitFailedError:
    return CommitFailedError("commit_failed", f"{name}: the commit failed")
