"""What the tools for the log read through the core."""

import gzip
import json
from pathlib import Path

import pytest

from penstock import _core
from support.core import EVENT, OpenEngine, batch
from support.log_records import LANE, RECEIVED_AT_US, quarantine_file, record_context

LAST = (1 << 64) - 1


def records(data_dir: Path, first: int = 1, last: int = LAST) -> list[_core.LogRecord]:
    reader = _core.LogReader(str(data_dir), first, last)
    found: list[_core.LogRecord] = []
    while (more := reader.next_records(decode=True)) is not None:
        assert reader.take_damage() == []
        found += more
    return found


def files(data_dir: Path) -> list[_core.LogFile]:
    reader = _core.LogReader(str(data_dir), 1, LAST)
    found = []
    while (file := reader.next_file()) is not None:
        found.append(file)
    return found


def test_records_of_a_running_engine_tell_what_was_decided(
    open_engine: OpenEngine, tmp_path: Path
) -> None:
    engine = open_engine(flush_interval_seconds=3600)
    named = EVENT | {"uuid": "01890a5d-ac96-774b-bcce-b302099a8057"}
    engine.submit(batch(named, named, {"event": "no id"}))
    compressed = gzip.compress(batch(EVENT, token="short"))
    engine.submit(compressed, endpoint="e")

    first, second = records(tmp_path / "data")

    ((lane, low, high),) = engine.core.lanes()
    assert (first.lane, first.position, second.position) == (lane, low, high)
    assert (first.accepted, first.duplicates, first.rejected) == (1, 1, 1)
    assert (first.endpoint, second.endpoint) == ("batch", "e")
    assert (first.coding, second.coding) == ("identity", "gzip")
    assert first.received_at_us > RECEIVED_AT_US
    assert second.payload() == compressed
    assert second.payload_bytes == len(compressed)
    assert second.text() == batch(EVENT, token="short")
    assert first.problem is None


def test_tokens_are_shortened_also_where_they_are_the_project(
    open_engine: OpenEngine, tmp_path: Path
) -> None:
    open_engine(flush_interval_seconds=3600).submit(batch(EVENT, token="phc_12345"))
    (record,) = records(tmp_path / "data")
    assert (record.token, record.project) == ("phc_1234…", "phc_1234…")


def test_a_range_gives_the_records_in_it(open_engine: OpenEngine, tmp_path: Path) -> None:
    engine = open_engine(flush_interval_seconds=3600, wal_file_bytes=1 << 20)
    padded = {"event": "e", "distinct_id": "d", "properties": {"padding": "x" * 300_000}}
    for _ in range(12):
        engine.submit(batch(padded))
    data_dir = tmp_path / "data"
    assert len(files(data_dir)) > 2
    found = [record.position for record in records(data_dir, 5, 9)]
    assert found == [5, 6, 7, 8, 9]
    assert records(data_dir, 13) == []


def test_files_tell_their_records_and_damage(open_engine: OpenEngine, tmp_path: Path) -> None:
    engine = open_engine(flush_interval_seconds=3600)
    for number in range(5):
        engine.submit(batch(EVENT | {"event": f"number {number}"}))
    engine.core.close()
    data_dir = tmp_path / "data"
    (whole,) = files(data_dir)
    assert (whole.records, whole.first_position, whole.last_position) == (5, 1, 5)
    assert whole.damage == []
    assert whole.created_at_us > RECEIVED_AT_US

    path = Path(whole.path)
    content = bytearray(path.read_bytes())
    at = content.index(b"number 2")
    content[at] ^= 1
    path.write_bytes(content)

    (file,) = files(data_dir)
    (damage,) = file.damage
    assert damage.first_byte <= at <= damage.last_byte
    assert (damage.first_position, damage.last_position) == (3, 3)
    assert damage.file == whole.path
    assert damage.kept_aside is None
    kept, cut = _core.repair_log(str(data_dir))
    assert [(name, first, last) for name, first, last, _ in kept] == [
        (whole.path, damage.first_byte, damage.last_byte)
    ]
    assert cut is None
    assert content[at] in Path(kept[0][3]).read_bytes()
    assert files(data_dir)[0].damage[0].kept_aside == kept[0][3]
    assert _core.repair_log(str(data_dir)) == ([], None)


def test_damage_is_told_between_the_records(open_engine: OpenEngine, tmp_path: Path) -> None:
    engine = open_engine(flush_interval_seconds=3600)
    for number in range(5):
        engine.submit(batch(EVENT | {"event": f"number {number}"}))
    engine.core.close()
    (path,) = [Path(file.path) for file in files(tmp_path / "data")]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"number 2", b"NUMBER 2"))
    reader = _core.LogReader(str(tmp_path / "data"), 1, LAST)
    found, damage = [], []
    while (more := reader.next_records(decode=False)) is not None:
        found += [record.position for record in more]
        damage += reader.take_damage()
    assert found == [1, 2, 4, 5]
    assert [one.first_position for one in damage] == [3]


def test_repair_is_refused_while_an_engine_is_open(open_engine: OpenEngine, tmp_path: Path) -> None:
    open_engine()
    with pytest.raises(_core.DataDirectoryError) as caught:
        _core.repair_log(str(tmp_path / "data"))
    assert caught.value.args[0] == "data_directory_in_use"


@pytest.mark.parametrize("call", [lambda path: _core.LogReader(path, 1, LAST), _core.repair_log])
def test_what_is_no_data_directory_is_refused_and_stays_as_it_is(call, tmp_path: Path) -> None:
    with pytest.raises(_core.DataDirectoryError) as caught:
        call(str(tmp_path))
    assert caught.value.args[0] == "data_directory_unusable"
    assert list(tmp_path.iterdir()) == []


def test_newer_format_is_refused(open_engine: OpenEngine, tmp_path: Path) -> None:
    open_engine().core.close()
    marker = tmp_path / "data" / "format.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format_version": 99}))
    with pytest.raises(_core.DataDirectoryError):
        _core.LogReader(str(tmp_path / "data"), 1, LAST)


def test_a_record_in_quarantine_is_read_back(tmp_path: Path) -> None:
    context = record_context("website", 1, RECEIVED_AT_US)
    body = batch(EVENT, token="phc_12345")
    path = quarantine_file(tmp_path, 7, context, body)
    record, why, set_aside_at_us = _core.read_quarantined(str(path))
    assert (record.lane, record.position, record.problem) == (LANE, 7, None)
    assert (record.project, record.token, record.accepted) == ("website", "phc_1234…", 1)
    assert record.payload() == body
    assert (why, set_aside_at_us) == ("a test says so", RECEIVED_AT_US)


def test_a_record_that_does_not_give_its_events_says_so(tmp_path: Path) -> None:
    context = record_context("website", 2, RECEIVED_AT_US)
    path = quarantine_file(tmp_path, 7, context, batch(EVENT))
    record, _, _ = _core.read_quarantined(str(path))
    assert record.problem == "record gives 1 events on replay, 2 when it was taken"


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{LANE}-7.record"
    path.write_bytes(b"PSQR\x09")
    with pytest.raises(_core.CoreError) as caught:
        _core.read_quarantined(str(path))
    assert caught.value.args[0] == "record_unreadable"
