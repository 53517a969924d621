"""`penstock wal cat`: one line a record. No payload but the one that is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, TextIO

from penstock.errors import PenstockError
from penstock.tools.log_view import RecordLike, read_records, time_text, warner


def cat(
    data_dir: Path, output: TextIO, errors: TextIO, *, first: int, last: int, as_json: bool
) -> None:
    """Write the records from `first` to `last`, one a line; damage that is met goes to `errors`.

    Raises:
        DataDirectoryError: There is none, or one of a newer format.
        PenstockError: The log can't be read.
    """
    write_records(output, read_records(data_dir, first, last, warner(errors)), as_json=as_json)
    output.flush()


def write_records(output: TextIO, records: Iterable[RecordLike], *, as_json: bool) -> None:
    """Write records as JSON objects or as `key=value` pairs."""
    for record in records:
        fields = _fields(record)
        if as_json:
            output.write(json.dumps(fields, ensure_ascii=False) + "\n")
        else:
            pairs = (f"{name}={_word(value)}" for name, value in fields.items() if value != "")
            output.write(" ".join(pairs) + "\n")


def write_payload(data_dir: Path, position: int, output: BinaryIO, errors: TextIO) -> None:
    """Write the decoded body of one record, as text of the client's, to `output`.

    Raises:
        DataDirectoryError: There is none, or one of a newer format.
        PenstockError: There is no such record, or it can't be decoded.
    """
    for record in read_records(data_dir, position, position, warner(errors)):
        output.write(record.text())
        output.flush()
        return
    raise PenstockError("no_such_record", f"the log has no record at position {position}")


def _fields(record: RecordLike) -> dict[str, object]:
    fields: dict[str, object] = {
        "lane": record.lane,
        "position": record.position,
        "received_at": time_text(record.received_at_us) if record.endpoint else None,
        "endpoint": record.endpoint,
        "project": record.project,
        "token": record.token,
        "accepted": record.accepted,
        "duplicate": record.duplicates,
        "rejected": record.rejected,
        "payload_bytes": record.payload_bytes,
        "coding": record.coding,
    }
    if record.rewritten:
        fields["rewritten"] = "cookieless"
    if record.problem is not None:
        fields["problem"] = record.problem
    return fields


def _word(value: object) -> str:
    """Write a value so that it stays one word, and so that no control character of it is live."""
    if value is None:
        return "-"
    text = str(value)
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return json.dumps(text)
