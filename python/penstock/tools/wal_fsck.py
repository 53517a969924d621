"""`penstock wal fsck`: what each file of the log holds, and what of it can't be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TextIO

from penstock.tools.log_view import (
    FIRST_POSITION,
    LAST_POSITION,
    DamageLike,
    core_errors,
    count_text,
    damage_text,
    time_text,
)

# Ids that came to `dedup/` before the damage stay there: nobody knows which of them they are.
_IDS_STAY: Final = (
    "note: events of damaged ranges may count as duplicates when they are sent again, for as "
    "long as ids are kept (dedup_window_seconds)"
)


class FileLike(Protocol):
    """What is read of `_core.LogFile`."""

    @property
    def path(self) -> str:
        """Path of the file."""

    @property
    def lane(self) -> str | None:
        """None: unknown."""

    @property
    def created_at_us(self) -> int:
        """Microseconds since 1970; 0: unknown."""

    @property
    def first_position(self) -> int:
        """0: none."""

    @property
    def last_position(self) -> int:
        """0: none."""

    @property
    def records(self) -> int:
        """Whole ones."""

    @property
    def size_bytes(self) -> int:
        """Up to the end of the last whole record."""

    @property
    def unfinished_bytes(self) -> int:
        """Behind it; never acknowledged."""

    @property
    def seal(self) -> str:
        """`none`, `agrees` or `disagrees`."""

    @property
    def damage(self) -> Sequence[DamageLike]:
        """What can't be read."""


@dataclass(slots=True)
class Repair:
    """What a repair did.

    Attributes:
        kept_aside: (file, first byte, last byte, where to) of what it copied or moved.
        cut: (file, offset, bytes) of the torn tail that it cut.
    """

    kept_aside: list[tuple[str, int, int, str]]
    cut: tuple[str, int, int] | None


@dataclass(slots=True)
class Summary:
    """All files together."""

    files: int = 0
    records: int = 0
    size_bytes: int = 0
    first_position: int = 0
    last_position: int = 0
    lanes: list[str] = field(default_factory=list)
    damaged_ranges: int = 0

    def add(self, file: FileLike) -> None:
        """Count one more file."""
        self.files += 1
        self.records += file.records
        self.size_bytes += file.size_bytes
        self.first_position = self.first_position or file.first_position
        self.last_position = max(self.last_position, file.last_position)
        if file.lane is not None and file.lane not in self.lanes[-1:]:
            self.lanes.append(file.lane)
        self.damaged_ranges += len(file.damage)


def fsck(data_dir: Path, output: TextIO, *, repair: bool, as_json: bool) -> bool:
    """Check the log below `data_dir` and write what was found to `output`.

    Without `repair` nothing is locked or changed. With it, damage is kept aside and a torn tail is
    cut, as the next start of a server would do it; nothing that holds a record is deleted.

    Returns:
        Whether the log was whole. An end that nobody was told is stored is no damage.

    Raises:
        DataDirectoryError: There is none, or one of a newer format; with `repair`, it is in use.
        PenstockError: The log can't be read.
    """
    summary = Summary()
    write = _write_json if as_json else _write_text
    files = _counted(_files(data_dir), summary)
    # The repair comes after the report, so that what was found is told even if it is refused.
    write(output, files, summary, _repairs(data_dir) if repair else iter(()))
    output.flush()
    return summary.damaged_ranges == 0


def _files(data_dir: Path) -> Iterator[FileLike]:
    from penstock import _core  # noqa: PLC0415 - the command line is read without the core

    with core_errors():
        reader = _core.LogReader(str(data_dir), FIRST_POSITION, LAST_POSITION)
        while (file := reader.next_file()) is not None:
            yield file


def _repairs(data_dir: Path) -> Iterator[Repair]:
    from penstock import _core  # noqa: PLC0415 - as above

    with core_errors():
        kept_aside, cut = _core.repair_log(str(data_dir))
    yield Repair(kept_aside, cut)


def _counted(files: Iterator[FileLike], summary: Summary) -> Iterator[FileLike]:
    for file in files:
        summary.add(file)
        yield file


def _write_text(
    output: TextIO, files: Iterator[FileLike], summary: Summary, repairs: Iterator[Repair]
) -> None:
    for file in files:
        output.write(_file_text(file) + "\n")
        for damage in file.damage:
            output.write(f"  damage: {damage_text(damage)}\n")
        if file.unfinished_bytes:
            unfinished = count_text(file.unfinished_bytes, "byte")
            output.write(f"  unfinished: {unfinished} at the end, of which nobody was told\n")
        if file.seal == "disagrees":
            output.write("  seal: does not agree with the file; the next start reads the file\n")
    output.write(_summary_text(summary) + "\n")
    if summary.damaged_ranges:
        output.write(_IDS_STAY + "\n")
    output.flush()
    for repair in repairs:
        for path, first, last, kept in repair.kept_aside:
            output.write(f"kept aside: bytes {first} to {last} of {path} in {kept}\n")
        if repair.cut is not None:
            path, offset, size = repair.cut
            output.write(f"cut: {count_text(size, 'byte')} from byte {offset} on of {path}\n")
        if not repair.kept_aside and repair.cut is None:
            output.write("nothing to repair\n")


def _file_text(file: FileLike) -> str:
    parts = [Path(file.path).name]
    if file.lane is not None:
        parts.append(f"lane {file.lane}")
    if file.records:
        parts.append(f"positions {file.first_position} to {file.last_position}")
    parts.append(count_text(file.records, "record"))
    parts.append(count_text(file.size_bytes, "byte"))
    if file.seal == "agrees":
        parts.append("sealed")
    if file.created_at_us:
        parts.append(f"created {time_text(file.created_at_us)}")
    return "  ".join(parts)


def _summary_text(summary: Summary) -> str:
    state = (
        f"damaged: {count_text(summary.damaged_ranges, 'range')}"
        if summary.damaged_ranges
        else "whole"
    )
    positions = (
        f", positions {summary.first_position} to {summary.last_position}"
        if summary.records
        else ""
    )
    return (
        f"{state}; {count_text(summary.files, 'file')}, {count_text(len(summary.lanes), 'lane')}, "
        f"{count_text(summary.records, 'record')}{positions}, "
        f"{count_text(summary.size_bytes, 'byte')}"
    )


def _write_json(
    output: TextIO, files: Iterator[FileLike], summary: Summary, repairs: Iterator[Repair]
) -> None:
    """One object: `files`, `summary`, and `repair` if there was one."""
    separator = '{"files": ['
    wrote_any = False
    for file in files:
        output.write(separator + json.dumps(_file_json(file)))
        separator = ",\n"
        wrote_any = True
    output.write("" if wrote_any else separator)
    whole = {
        "whole": summary.damaged_ranges == 0,
        "files": summary.files,
        "lanes": summary.lanes,
        "records": summary.records,
        "size_bytes": summary.size_bytes,
        "first_position": summary.first_position,
        "last_position": summary.last_position,
        "damaged_ranges": summary.damaged_ranges,
    }
    output.write('],\n"summary": ' + json.dumps(whole))
    try:
        for repair in repairs:
            output.write(',\n"repair": ' + json.dumps(_repair_json(repair)))
    finally:
        output.write("}\n")


def _file_json(file: FileLike) -> dict[str, object]:
    return {
        "file": file.path,
        "lane": file.lane,
        "created_at": time_text(file.created_at_us) if file.created_at_us else None,
        "first_position": file.first_position,
        "last_position": file.last_position,
        "records": file.records,
        "size_bytes": file.size_bytes,
        "unfinished_bytes": file.unfinished_bytes,
        "seal": file.seal,
        "damage": [
            {
                "first_byte": damage.first_byte,
                "last_byte": damage.last_byte,
                "first_position": damage.first_position,
                "last_position": damage.last_position,
                "why": damage.why,
                "kept_aside": damage.kept_aside,
            }
            for damage in file.damage
        ],
    }


def _repair_json(repair: Repair) -> dict[str, object]:
    names = ("file", "first_byte", "last_byte", "kept_aside")
    cut = repair.cut
    return {
        "kept_aside": [dict(zip(names, kept, strict=True)) for kept in repair.kept_aside],
        "cut": None if cut is None else dict(zip(("file", "offset", "bytes"), cut, strict=True)),
    }
