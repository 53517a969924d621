"""What the tools share: reading the log through the core, and words for what is in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol, TextIO

from penstock.errors import DataDirectoryError, PenstockError

FIRST_POSITION: Final = 1
LAST_POSITION: Final = (1 << 64) - 1

# Enough of a token to tell projects apart, too little to send with; as in
# `rust_core/engine/src/inspect.rs`.
_SHOWN_TOKEN_CHARACTERS: Final = 8

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DamageLike(Protocol):
    """What is read of `_core.LogDamage`."""

    @property
    def file(self) -> str:
        """Path of the file."""

    @property
    def why(self) -> str:
        """In words."""

    @property
    def first_byte(self) -> int:
        """First byte of the range."""

    @property
    def last_byte(self) -> int:
        """Last byte of the range."""

    @property
    def first_position(self) -> int:
        """First missing record; 0: none, or unknown."""

    @property
    def last_position(self) -> int:
        """Last missing record."""

    @property
    def kept_aside(self) -> str | None:
        """Where the bytes are kept already."""


class RecordLike(Protocol):
    """What is read of `_core.LogRecord`."""

    @property
    def lane(self) -> str:
        """The opening of the log that took it."""

    @property
    def position(self) -> int:
        """Its place."""

    @property
    def problem(self) -> str | None:
        """Why it can't be read as it was taken."""

    @property
    def received_at_us(self) -> int:
        """Microseconds since 1970."""

    @property
    def endpoint(self) -> str:
        """The path without slashes, or the gRPC method."""

    @property
    def project(self) -> str:
        """Shortened if it is the token."""

    @property
    def token(self) -> str | None:
        """Shortened."""

    @property
    def request_token(self) -> str | None:
        """The whole token from beside the body; never shown."""

    @property
    def content_type(self) -> str:
        """How the body is written."""

    @property
    def sdk_info(self) -> str | None:
        """What the client says of itself: of capture v1, and of session replay."""

    @property
    def client_address(self) -> str | None:
        """After the proxy rule."""

    @property
    def sent_at_us(self) -> int | None:
        """The client's clock when it sent."""

    @property
    def rewritten(self) -> bool:
        """Events of cookieless mode were rewritten: the payload is not as received."""

    @property
    def accepted(self) -> int:
        """Events."""

    @property
    def duplicates(self) -> int:
        """Events."""

    @property
    def rejected(self) -> int:
        """Events."""

    @property
    def coding(self) -> str:
        """The outermost: as in Content-Encoding, or `form`, `base64`, `lz64`."""

    @property
    def payload_bytes(self) -> int:
        """As received."""

    @property
    def identity(self) -> str | None:
        """What no other request has; None if it can't be read."""

    def context(self) -> bytes:
        """Give what was decided about the request."""

    def accepted_events(self) -> list[tuple[int, str, str, str]]:
        """Give (index, uuid, event, distinct_id) of each event that was accepted."""

    def payload(self) -> bytes:
        """Give the body as received."""

    def text(self) -> bytes:
        """Give the body decoded."""


@contextlib.contextmanager
def core_errors() -> Iterator[None]:
    """Turn errors of the core into those that the commands catch."""
    from penstock import _core  # noqa: PLC0415 - the command line is read without the core

    try:
        yield
    except _core.DataDirectoryError as error:
        raise DataDirectoryError(*_code_and_message(error)) from error
    except _core.CoreError as error:
        raise PenstockError(*_code_and_message(error)) from error


def _code_and_message(error: Exception) -> tuple[str, str]:
    code, message = (*map(str, error.args), "", "")[:2]
    return code, message


def read_records(
    data_dir: Path, first: int, last: int, on_damage: Callable[[DamageLike], None]
) -> Iterator[RecordLike]:
    """Read the records of a log in order, decoded. Memory holds those of one commit group.

    Args:
        data_dir: Data directory of a stopped, copied or running server. Nothing in it is changed.
        first: Records from this position on.
        last: Records up to this position.
        on_damage: Told of what can't be read, in between.

    Raises:
        DataDirectoryError: There is none, or one of a newer format.
        PenstockError: The log can't be read.
    """
    from penstock import _core  # noqa: PLC0415 - as above

    with core_errors():
        reader = _core.LogReader(str(data_dir), first, last)
        while (records := reader.next_records(decode=True)) is not None:
            for damage in reader.take_damage():
                on_damage(damage)
            yield from records


def log_spans(data_dir: Path) -> list[tuple[str, int, int]]:
    """List the lanes of a log: (lane, first, last position), oldest first. Cost: reads all of it.

    Raises:
        DataDirectoryError: There is none, or one of a newer format.
        PenstockError: The log can't be read.
    """
    from penstock import _core  # noqa: PLC0415 - as above

    spans: dict[str, tuple[int, int]] = {}
    with core_errors():
        reader = _core.LogReader(str(data_dir), FIRST_POSITION, LAST_POSITION)
        while (file := reader.next_file()) is not None:
            if file.lane is not None and file.records:
                first, _ = spans.get(file.lane, (file.first_position, 0))
                spans[file.lane] = (first, file.last_position)
    return [(lane, first, last) for lane, (first, last) in spans.items()]


def damage_text(damage: DamageLike) -> str:
    """Say what is damaged, in one line without the file's name."""
    parts = [f"bytes {damage.first_byte} to {damage.last_byte}: {damage.why}"]
    if damage.first_position:
        parts.append(f"positions {damage.first_position} to {damage.last_position} are missing")
    if damage.kept_aside is not None:
        parts.append(f"kept aside in {damage.kept_aside}")
    return "; ".join(parts)


def warner(errors: TextIO) -> Callable[[DamageLike], None]:
    """Give what writes a warning for each damage."""

    def warn(damage: DamageLike) -> None:
        errors.write(f"warning: {Path(damage.file).name}: {damage_text(damage)}\n")

    return warn


def time_text(micros: int) -> str | None:
    """Write a time in RFC 3339, UTC, with microseconds; None if it is out of a calendar's range."""
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def token_text(token: str) -> str:
    """Write as much of a token, or of what may be one, as is shown (SEC-2)."""
    shown = token[:_SHOWN_TOKEN_CHARACTERS]
    return token if shown == token else shown + "…"


def count_text(number: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
