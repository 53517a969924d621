"""The files of a Delta log as they lie on disk: which are whole, and moving aside those that tore.

A power cut may leave the newest entry empty, short or full of zeros, and a checkpoint likewise. The
library opens an empty entry as a version without actions, and refuses a table with a torn
checkpoint even if all entries are there; so both are looked at before it opens the table.

An entry may also be cut at the very end of a line, and then each line of it can be read. The
library writes the commit's information first, the files behind it and the transactions last; so our
commits say in their information how many transactions follow (`TRANSACTIONS_KEY`).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from penstock.table import segment_names
from penstock.table.durable import rewrite_synced, sync_directory, sync_file
from penstock.table.errors import HoldCommitsError

LOG_FOLDER: Final = "_delta_log"
# Below the table; readers and vacuum leave out names that begin with an underscore.
ASIDE_FOLDER: Final = "_torn"
LAST_CHECKPOINT: Final = "_last_checkpoint"
# In the information of each commit of ours: how many transactions it carries.
TRANSACTIONS_KEY: Final = "penstock_transactions"

_ENTRY: Final = re.compile(r"^(\d{20})\.json$")
_CHECKPOINT: Final = re.compile(r"^(\d{20})\.checkpoint(\.[\w.-]+)?\.parquet$")
_PARQUET_MAGIC: Final = b"PAR1"
# Magic, footer length, magic: nothing shorter is Parquet.
_PARQUET_MINIMUM_BYTES: Final = 12


class EntryIdentity(NamedTuple):
    """What tells one entry from another that was put in its place."""

    inode: int
    size_bytes: int
    modified_ns: int


class LogFiles:
    """The log of one table."""

    def __init__(self, table_directory: Path) -> None:
        self.table_directory = table_directory
        self.directory = table_directory / LOG_FOLDER

    def entries(self) -> list[int]:
        """List the versions whose entries are there, oldest first."""
        return sorted(int(match[1]) for match in self._matches(_ENTRY))

    def checkpoints(self) -> dict[int, list[Path]]:
        """List the checkpoints by version."""
        found: dict[int, list[Path]] = {}
        for match in self._matches(_CHECKPOINT):
            found.setdefault(int(match[1]), []).append(self.directory / match[0])
        return found

    def newest_checkpoint(self) -> int | None:
        """Version of the newest checkpoint."""
        return max(self.checkpoints(), default=None)

    def entry(self, version: int) -> Path:
        """Path of the entry of a version."""
        return self.directory / f"{version:020}.json"

    def entry_is_whole(self, version: int) -> bool:
        """Tell whether an entry has actions, each can be read, and those of ours are all there."""
        lines = self.entry(version).read_bytes().split(b"\n")
        try:
            actions = [json.loads(line) for line in lines if line.strip()]
        except ValueError:
            return False
        return bool(actions) and _are_whole(actions)

    def identity(self, version: int) -> EntryIdentity | None:
        """Tell what lies at a version's place; None if its entry is not there."""
        try:
            status = self.entry(version).stat()
        except FileNotFoundError:
            return None
        return EntryIdentity(status.st_ino, status.st_size, status.st_mtime_ns)

    def torn_checkpoints(self) -> list[int]:
        """List the versions whose checkpoint is torn, or named and missing."""
        torn = [
            version
            for version, paths in self.checkpoints().items()
            if not all(map(_is_whole_parquet, paths))
        ]
        named = self.named_checkpoint()
        if named is not None and named not in self.checkpoints():
            torn.append(named)
        return sorted(torn)

    def named_checkpoint(self) -> int | None:
        """Version that `_last_checkpoint` names; None if there is none that can be read."""
        try:
            named = json.loads((self.directory / LAST_CHECKPOINT).read_bytes())
            return int(named["version"])
        except (OSError, ValueError, KeyError, TypeError):
            # The library does without it.
            return None

    def reaches_back_to(self, start: int) -> bool:
        """Tell whether every entry from `start` to the newest is there."""
        entries = [version for version in self.entries() if version >= start]
        return bool(entries) and entries == list(range(start, entries[-1] + 1))

    def move_entry_aside(self, version: int) -> Path:
        """Take an entry out of the log. Durability: synced."""
        return self._move_aside([self.entry(version)])

    def move_checkpoint_aside(self, version: int) -> Path:
        """Take a checkpoint, and the name that points at it, out of the log. Durability: synced."""
        paths = list(self.checkpoints().get(version, []))
        if self.named_checkpoint() == version:
            paths.append(self.directory / LAST_CHECKPOINT)
        return self._move_aside(paths)

    def sync_from(self, version: int) -> None:
        """Sync every entry above `version`, and the log's directory.

        Raises:
            HoldCommitsError: The disk failed.
        """
        self._sync_entries(version, known_synced=self._newest_entry())

    def sync_all_needed(self, known_synced: int) -> None:
        """Sync all that opening the table reads: newest checkpoint, and every entry after it.

        Args:
            known_synced: Version up to which everything was synced once. What is newer may have met
                a disk that failed, in another process or in this one, and the disk says so only
                once: its bytes are written again.

        Raises:
            HoldCommitsError: The disk failed.
        """
        checkpoints = self.checkpoints()
        newest = max(checkpoints, default=-1)
        for path in checkpoints.get(newest, []):
            # A checkpoint is made after its version was noted, and before the next one is.
            _sync(path, again=newest >= known_synced)
        if (self.directory / LAST_CHECKPOINT).exists():
            sync_file(self.directory / LAST_CHECKPOINT)
        # From the checkpoint's own entry on: with all of them it can be done without.
        self._sync_entries(newest - 1, known_synced)

    def _sync_entries(self, above: int, known_synced: int) -> None:
        for number in self.entries():
            if number > above:
                written_again = _sync(self.entry(number), again=number > known_synced)
                if written_again and not self.entry_is_whole(number):
                    # What the disk did not take was dropped from memory before it was read again.
                    raise HoldCommitsError("table_damaged", f"entry {number} is damaged")
        sync_directory(self.directory)

    def _newest_entry(self) -> int:
        return max(self.entries(), default=-1)

    def _matches(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        if not self.directory.is_dir():
            return []
        with os.scandir(self.directory) as entries:
            # What is no file is nothing of ours, whatever it is called.
            found = [pattern.match(entry.name) for entry in entries if entry.is_file()]
        return [match for match in found if match]

    def _move_aside(self, paths: list[Path]) -> Path:
        aside = self.table_directory / ASIDE_FOLDER
        aside.mkdir(exist_ok=True)
        for path in paths:
            number = 0
            while (target := aside / f"{path.name}.{number}").exists():
                number += 1
            path.rename(target)
        for directory in (aside, self.directory, self.table_directory):
            sync_directory(directory)
        return aside


def _is_whole_parquet(path: Path) -> bool:
    """Tell whether a file begins and ends as Parquet does and its footer fits in it."""
    size = path.stat().st_size
    if size < _PARQUET_MINIMUM_BYTES:
        return False
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(size - 8)
        end = file.read(8)
    footer_bytes = int.from_bytes(end[:4], "little")
    fits = footer_bytes + _PARQUET_MINIMUM_BYTES <= size
    return start == _PARQUET_MAGIC and end[4:] == _PARQUET_MAGIC and fits


def _sync(path: Path, *, again: bool) -> bool:
    """Sync a file; tell whether its bytes were written again."""
    if not again:
        return sync_file(path)
    rewrite_synced(path)
    return True


def _are_whole(actions: list[object]) -> bool:
    if not all(isinstance(action, dict) for action in actions):
        return False
    objects = [action for action in actions if isinstance(action, dict)]
    transactions = sum("txn" in action for action in objects)
    infos = [action["commitInfo"] for action in objects if "commitInfo" in action]
    promised = [info[TRANSACTIONS_KEY] for info in infos if TRANSACTIONS_KEY in info]
    if promised:
        return bool(str(transactions) == promised[0])
    # Others name our files too, when they restore an earlier version; they say what they do.
    return bool(infos or transactions) or not any(map(_adds_ours, objects))


def _adds_ours(action: dict[str, object]) -> bool:
    match action.get("add"):
        case {"path": str(path)}:
            return segment_names.parse(PurePosixPath(path).name) is not None
    return False
