"""Files that a crash left: removed at the start, and nothing else."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from unit.table.helpers import LANE, OTHER_LANE, FakeCore, cut_of, write_segment
from unit.table.test_committer import committer_of, rows


def test_orphans_of_a_crash_are_removed_at_the_start(tmp_path: Path) -> None:
    first = committer_of(FakeCore(), tmp_path)
    first.open()
    first.commit_cut(cut_of(tmp_path, [1], rejected=[2]))
    never_committed = [
        tmp_path / "events" / write_segment(tmp_path, [3, 4]).path,
        tmp_path / "events" / write_segment(tmp_path, [5], project="a/b").path,
        tmp_path / "rejected" / write_segment(tmp_path, [4], table="rejected").path,
        # A table that was to be made with this very row.
        tmp_path / "recordings" / write_segment(tmp_path, [4], table="recordings").path,
    ]
    core = FakeCore(log_lanes=[(LANE, 1, 5)])
    second = committer_of(core, tmp_path)
    second.open()
    assert not any(path.exists() for path in never_committed)
    assert (rows(tmp_path), rows(tmp_path, "rejected")) == ([1], [2])
    assert "penstock_table_orphans_removed_total 4" in second.metrics()


def keep(data_dir: Path, what: str) -> Path:
    """Leave a file in the table's folder that is no orphan, or not known to be one."""
    made = {
        "not in the log": lambda: write_segment(data_dir, [9]),
        "released": lambda: write_segment(data_dir, [2]),
        "passed": lambda: write_segment(data_dir, [3]),
        "lane unknown": lambda: write_segment(data_dir, [5], lane=OTHER_LANE),
    }
    if what in made:
        return data_dir / "events" / made[what]().path
    file = data_dir / "events" / write_segment(data_dir, [5]).path
    names = {
        "not our name": file.with_name("part-0001.parquet"),
        "aside": data_dir / "events" / "_torn" / file.name,
    }
    names[what].parent.mkdir(exist_ok=True)
    file.rename(names[what])
    return names[what]


@pytest.mark.parametrize(
    "what", ["not in the log", "released", "passed", "lane unknown", "not our name", "aside"]
)
def test_files_that_are_not_known_to_be_orphans_are_kept(tmp_path: Path, what: str) -> None:
    first = committer_of(FakeCore(), tmp_path)
    first.open()
    first.commit_cut(cut_of(tmp_path, [3]))
    kept = keep(tmp_path, what)
    committer_of(FakeCore(log_lanes=[(LANE, 3, 6)]), tmp_path).open()
    assert kept.exists()


def test_files_of_an_older_version_are_kept(tmp_path: Path) -> None:
    # Removed from the table by another writer; time travel still reads them.
    first = committer_of(FakeCore(), tmp_path)
    first.open()
    first.commit_cut(cut_of(tmp_path, [1]))
    DeltaTable(tmp_path / "events").delete()
    committer_of(FakeCore(), tmp_path).open()
    before = DeltaTable(tmp_path / "events", version=1)
    assert all(Path(uri).exists() for uri in before.file_uris())
