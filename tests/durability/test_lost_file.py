"""A file of a cut that is taken away before its commit: its rows are in the log, and come again."""

from pathlib import Path

import pytest

from penstock.table.errors import CutFilesLostError
from penstock.table.query import run_query
from support.core import EVENT, SNAPSHOT, batch, stepped_committer

# Each is a wait of up to 250 ms for a cut.
MAX_STEPS = 120


@pytest.mark.parametrize("table", ["events", "rejected", "recordings"])
def test_a_cut_whose_file_is_lost_is_built_anew_by_the_core(tmp_path: Path, table: str) -> None:
    data_dir = tmp_path / "data"
    with stepped_committer(data_dir) as (engine, committer):
        core = engine.core
        for _ in range(3):
            engine.submit(batch(EVENT, EVENT, {"event": "lost"}))
            engine.submit(SNAPSHOT, "s")
        core.flush()
        cut = next(cut for _ in range(MAX_STEPS) if (cut := core.next_cut(250)) is not None)
        (data_dir / table / cut.files[table][0].path).unlink()
        with pytest.raises(CutFilesLostError):
            committer._step()
        engine.submit(batch(EVENT))
        core.flush()
        for _ in range(MAX_STEPS):
            committer._step()
            if core.backlog[0] == 0:
                break
        assert core.backlog[0] == 0
        assert committer.held is None
    sql = (
        "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM rejected), "
        "(SELECT count(*) FROM recordings)"
    )
    assert run_query(data_dir, sql).rows == [(7, 3, 3)]
    assert committer.metrics().count("penstock_table_cuts_discarded_total 1") == 1
