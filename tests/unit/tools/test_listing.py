"""How the tools write what they found."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from penstock.tools import wal_fsck, wal_quarantine
from penstock.tools.log_view import time_text
from penstock.tools.sending import SendError
from penstock.tools.wal_cat import write_records
from penstock.tools.wal_fsck import Repair, fsck
from penstock.tools.wal_quarantine import Quarantined, list_quarantine, move_to_done, retry
from support.log_records import LANE, RECEIVED_AT_US, FakeRecord


def cat_text(record, *, as_json=False):
    output = io.StringIO()
    write_records(output, [record], as_json=as_json)
    return output.getvalue()


def test_a_record_is_one_line_of_pairs():
    assert cat_text(FakeRecord(body=b"secret", coding="gzip")) == (
        f"lane={LANE} position=12 received_at=2026-01-01T00:00:00.000000Z endpoint=batch "
        "project=website token=phc_demo… accepted=3 duplicate=1 rejected=0 payload_bytes=6 "
        "coding=gzip\n"
    )


def test_a_record_is_one_json_object_with_the_same_names():
    record = json.loads(cat_text(FakeRecord(), as_json=True))
    assert record["received_at"] == "2026-01-01T00:00:00.000000Z"
    assert (record["position"], record["duplicate"], record["token"]) == (12, 1, "phc_demo…")
    assert "problem" not in record


def test_what_a_stranger_named_stays_one_word_and_harmless():
    line = cat_text(FakeRecord(project="a b=\x1b[31m"))
    assert 'project="a b=\\u001b[31m" token' in line


def test_an_unreadable_record_is_listed_with_its_problem():
    line = cat_text(
        FakeRecord(problem="record context is damaged", endpoint="", project="", token=None)
    )
    assert 'problem="record context is damaged"' in line
    assert "received_at=- " in line


def test_times_beyond_the_calendar_are_none():
    assert time_text(1 << 62) is None
    assert time_text(-1) == "1969-12-31T23:59:59.999999Z"


@dataclass
class FakeFile:
    path: str = "wal/00000000000000000001.wal"
    lane: str | None = LANE
    created_at_us: int = RECEIVED_AT_US
    first_position: int = 1
    last_position: int = 4
    records: int = 3
    size_bytes: int = 9000
    unfinished_bytes: int = 0
    seal: str = "none"
    damage: list[SimpleNamespace] = field(default_factory=list)


DAMAGE = SimpleNamespace(
    file="wal/00000000000000000001.wal",
    why="bytes don't match their checksums",
    first_byte=4096,
    last_byte=4300,
    first_position=2,
    last_position=2,
    kept_aside=None,
)


def checked(monkeypatch, files, repairs=(), *, as_json=False):
    monkeypatch.setattr(wal_fsck, "_files", lambda _: iter(files))
    monkeypatch.setattr(wal_fsck, "_repairs", lambda _: iter(repairs))
    output = io.StringIO()
    whole = fsck(Path("data"), output, repair=True, as_json=as_json)
    return whole, output.getvalue()


def test_a_whole_log_is_told_by_file_and_in_sum(monkeypatch):
    whole, text = checked(monkeypatch, [FakeFile(unfinished_bytes=1)])
    assert whole
    assert text.splitlines() == [
        f"00000000000000000001.wal  lane {LANE}  positions 1 to 4  3 records  9000 bytes  "
        "created 2026-01-01T00:00:00.000000Z",
        "  unfinished: 1 byte at the end, of which nobody was told",
        "whole; 1 file, 1 lane, 3 records, positions 1 to 4, 9000 bytes",
    ]


def test_a_seal_is_told_and_one_that_is_wrong_is_no_damage(monkeypatch):
    whole, text = checked(monkeypatch, [FakeFile(seal="agrees"), FakeFile(seal="disagrees")])
    assert whole
    lines = text.splitlines()
    assert "  9000 bytes  sealed  created" in lines[0]
    assert "sealed" not in lines[1]
    assert lines[2] == "  seal: does not agree with the file; the next start reads the file"


def test_damage_and_its_repair_are_told(monkeypatch):
    repair = Repair([("a.wal", 4096, 4300, "damaged/x")], ("b.wal", 100, 7))
    whole, text = checked(monkeypatch, [FakeFile(damage=[DAMAGE])], [repair])
    assert not whole
    assert text.splitlines()[1:] == [
        "  damage: bytes 4096 to 4300: bytes don't match their checksums; "
        "positions 2 to 2 are missing",
        "damaged: 1 range; 1 file, 1 lane, 3 records, positions 1 to 4, 9000 bytes",
        "note: events of damaged ranges may count as duplicates when they are sent again, "
        "for as long as ids are kept (dedup_window_seconds)",
        "kept aside: bytes 4096 to 4300 of a.wal in damaged/x",
        "cut: 7 bytes from byte 100 on of b.wal",
    ]


@pytest.mark.parametrize("files", [[], [FakeFile(), FakeFile(damage=[DAMAGE])]])
def test_json_is_one_object(monkeypatch, files):
    whole, text = checked(monkeypatch, files, [Repair([], None)], as_json=True)
    told = json.loads(text)
    assert told["summary"]["whole"] == whole == (not files)
    assert len(told["files"]) == told["summary"]["files"] == len(files)
    assert told["repair"] == {"kept_aside": [], "cut": None}
    if files:
        assert told["files"][1]["damage"][0]["first_byte"] == 4096


class FakeSender:
    def __init__(self, errors):
        self.errors = errors
        self.sent: list[int] = []
        self.sent_body = b""

    def send(self, record):
        self.sent.append(record.position)
        if record.position in self.errors:
            raise self.errors[record.position]
        return True

    def close(self):
        pass


@pytest.fixture
def quarantine(monkeypatch, tmp_path):
    """Three files in quarantine."""
    folder = tmp_path / "quarantine"
    folder.mkdir()
    items = []
    for position in (1, 2, 3):
        path = folder / f"{position}.record"
        path.write_bytes(b"")
        items.append(Quarantined(path, FakeRecord(position=position), "why", 0))
    monkeypatch.setattr(wal_quarantine, "read_quarantine", lambda *_: iter(items))
    return folder


def retried(sender, witness=lambda _: None):
    output, errors = io.StringIO(), io.StringIO()
    none_kept = retry(Path("data"), "http://x", output, errors, sender=sender, witness=witness)
    return none_kept, output.getvalue(), errors.getvalue()


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.usefixtures("quarantine")
def test_the_list_has_no_payload_but_the_reason():
    output = io.StringIO()
    list_quarantine(Path("data"), output, io.StringIO(), as_json=True)
    rows = json.loads(output.getvalue())
    assert [row["position"] for row in rows] == [1, 2, 3]
    assert rows[0]["why"] == "why"
    assert rows[0]["set_aside_at"] is None


def test_what_was_stored_is_moved_and_what_was_refused_stays(quarantine):
    sender = FakeSender({2: SendError("refused", of_record=True)})
    none_kept, output, errors = retried(sender)
    assert not none_kept
    assert sender.sent == [1, 2, 3]
    assert names(quarantine) == ["2.record"]
    assert names(quarantine / "done") == ["1.record", "3.record"]
    assert errors == "kept: position 2: refused\n"
    assert output.endswith("2 records brought back, 1 kept\n")


def test_a_service_out_of_reach_ends_it(quarantine):
    sender = FakeSender({2: SendError("nobody there", of_record=False)})
    with pytest.raises(SendError):
        retried(sender)
    assert names(quarantine) == ["2.record", "3.record"]


@pytest.mark.parametrize("accepted", [0, 2])
def test_what_its_own_server_counts_as_duplicates_is_kept(quarantine, accepted):
    # It is answered with 200 and stored nowhere: moved to `done` it would be forgotten.
    none_kept, output, errors = retried(FakeSender({}), lambda _: accepted)
    assert not none_kept
    assert names(quarantine) == ["1.record", "2.record", "3.record"]
    assert f"{3 - accepted} of 3 events counted as duplicates" in errors
    assert ("The other 2 are stored now" in errors) == (accepted == 2)
    assert output == "0 records brought back, 3 kept\n"


def test_what_its_own_server_has_stored_is_done(quarantine):
    none_kept, _, _ = retried(FakeSender({}), lambda _: 3)
    assert none_kept
    assert names(quarantine / "done") == ["1.record", "2.record", "3.record"]


def test_nothing_in_done_is_replaced(tmp_path):
    for text in ("first", "second", "third"):
        path = tmp_path / "a.record"
        path.write_text(text)
        move_to_done(path)
    kept = {path.name: path.read_text() for path in (tmp_path / "done").iterdir()}
    assert kept == {"a.record": "first", "a.record.1": "second", "a.record.2": "third"}
