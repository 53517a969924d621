"""`penstock wal replay`: sends the records of a log again, to a running service.

The service takes them as new requests: with its own settings, its own deduplication, and the time
of receipt of now, which is also the time of events that name none. Events with an id that it has
within its window are stored once; those without one, and refused ones, are stored each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from penstock.errors import PenstockError
from penstock.tools.importing import ImportTarget
from penstock.tools.log_view import RecordLike, count_text, read_records, warner
from penstock.tools.sending import Sender, SendError

if TYPE_CHECKING:
    from penstock.config import Settings


def replay(
    data_dir: Path, url: str, output: TextIO, errors: TextIO, *, first: int, last: int
) -> bool:
    """Send the records from `first` to `last` to the service at `url`, in order.

    Returns:
        Whether all were sent; those that can't be read are told to `errors` and passed over.

    Raises:
        DataDirectoryError: There is no log, or one of a newer format.
        PenstockError: The log can't be read, or a record was not stored; names the last position
            that was done.
    """
    sender = Sender(url)
    try:
        records = read_records(data_dir, first, last, warner(errors))
        return send_records(records, sender, output, errors)
    finally:
        sender.close()


def import_log(
    data_dir: Path,
    target: Path,
    settings: Settings,
    output: TextIO,
    errors: TextIO,
    *,
    first: int,
    last: int,
) -> bool:
    """Take the records from `first` to `last` into another data directory, whose server is stopped.

    Done again, it goes on where it stopped: each record is taken in once (`importing.py`).

    Returns:
        Whether all are there; those that can't be read are told to `errors` and passed over.

    Raises:
        DataDirectoryError: One of them is none, or the server of the other runs.
        PenstockError: The log can't be read, or the other directory takes nothing more.
    """
    if target.exists() and target.samefile(data_dir):
        raise PenstockError("same_directory", f"{target} is the directory that is read from")
    with ImportTarget(target, settings) as opened:
        result = opened.take(read_records(data_dir, first, last, warner(errors)))
    for position, problem in result.unreadable:
        errors.write(f"warning: position {position}: {problem}; not taken in\n")
    output.write(
        f"took in {count_text(result.records, 'record')} with {count_text(result.events, 'event')}"
        f" and {count_text(result.duplicates, 'duplicate')}; {_last_text(result.last_position)}\n"
    )
    if result.known:
        output.write(f"{count_text(result.known, 'record')} taken in before\n")
    output.flush()
    return not result.unreadable


def send_records(
    records: Iterable[RecordLike], sender: Sender, output: TextIO, errors: TextIO
) -> bool:
    """Send records in order, up to the first that is not stored."""
    stored = refused = passed_over = 0
    last_done: int | None = None
    try:
        for record in records:
            if record.problem is not None:
                errors.write(f"warning: position {record.position}: {record.problem}; not sent\n")
                passed_over += 1
                continue
            try:
                done = sender.send(record)
            except SendError as error:
                message = f"position {record.position}: {error}; {_last_text(last_done)}"
                raise PenstockError(error.code, message) from error
            stored += done
            refused += not done
            last_done = record.position
    except KeyboardInterrupt:
        errors.write(f"stopped; {_last_text(last_done)}\n")
        raise
    output.write(f"sent {count_text(stored + refused, 'record')}; {_last_text(last_done)}\n")
    if refused:
        output.write(
            f"{count_text(refused, 'record')} with nothing but refused events among them\n"
        )
    if passed_over:
        output.write(f"{count_text(passed_over, 'record')} not sent\n")
    output.flush()
    return passed_over == 0


def _last_text(last_done: int | None) -> str:
    return "no position done" if last_done is None else f"last position done: {last_done}"
