"""Opening, closing and the hand-over of cuts, as Python sees them."""

import json
import threading
from pathlib import Path

import pytest

from penstock import _core
from penstock.config import Settings, engine_options
from support.core import EVENT, OpenEngine, batch

# A cut is asked for with `flush`, so it comes at once; this only bounds a failure.
CUT_MS = 20_000


def code_of(error: BaseException) -> str:
    code: str = error.args[0]
    return code


def test_data_directory_in_use_is_refused(open_engine: OpenEngine) -> None:
    open_engine()
    with pytest.raises(_core.DataDirectoryError) as caught:
        open_engine()
    assert code_of(caught.value) == "data_directory_in_use"


def test_data_directory_can_be_opened_again_after_close(open_engine: OpenEngine) -> None:
    first = open_engine()
    first.core.close()
    first.core.close()
    assert open_engine().submit(batch(EVENT)).accepted == 1


def test_newer_format_is_refused_before_anything_is_opened(
    open_engine: OpenEngine, tmp_path: Path
) -> None:
    open_engine().core.close()
    marker = tmp_path / "data" / "format.json"
    written = json.loads(marker.read_text())
    number = next(key for key, value in written.items() if isinstance(value, int))
    marker.write_text(json.dumps(written | {number: 999}))
    with pytest.raises(_core.DataDirectoryError) as caught:
        open_engine()
    assert code_of(caught.value) == "data_directory_newer_format"


def test_file_in_place_of_the_data_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("not a folder")
    with pytest.raises(_core.DataDirectoryError) as caught:
        _core.Engine(engine_options(Settings(data_dir=path)))
    assert code_of(caught.value) == "data_directory_unusable"


def test_missing_or_unknown_option_is_refused(tmp_path: Path) -> None:
    options = engine_options(Settings(data_dir=tmp_path / "data"))
    with pytest.raises((ValueError, KeyError, TypeError, _core.CoreError)):
        _core.Engine({key: value for key, value in options.items() if key != "max_wal_bytes"})
    with pytest.raises((ValueError, KeyError, TypeError, _core.CoreError), match="does not know"):
        _core.Engine(options | {"max_wall_bytes": 1 << 30})
    assert not (tmp_path / "data").exists()


def test_data_directory_error_is_a_core_error() -> None:
    assert issubclass(_core.DataDirectoryError, _core.CoreError)


def test_no_cut_comes_without_rows(open_engine: OpenEngine) -> None:
    engine = open_engine(flush_interval_seconds=3600)
    assert engine.core.next_cut(1) is None
    assert engine.core.backlog == (0, 0)


def test_cut_is_given_again_until_it_is_committed(open_engine: OpenEngine, tmp_path: Path) -> None:
    engine = open_engine(flush_interval_seconds=3600)
    position = engine.submit(batch(EVENT, EVENT)).log_position
    engine.core.flush()

    cut = engine.core.next_cut(CUT_MS)
    assert cut is not None
    again = engine.core.next_cut(CUT_MS)
    assert again is not None

    assert cut.position == again.position == position
    (file,) = cut.files["events"]
    assert [part.path for part in again.files["events"]] == [file.path]
    assert cut.files["rejected"] == []
    assert file.rows == 2
    assert (tmp_path / "data" / "events" / file.path).stat().st_size == file.size_bytes
    assert file.partition_values.keys() == {"project", "date"}
    assert json.loads(file.stats_json)["numRecords"] == 2
    engine.core.cut_committed(position, {"events": position, "rejected": position}, b"note")
    assert engine.core.next_cut(1) is None
    assert engine.core.backlog == (0, 0)
    assert engine.core.table_note() == b"note"


def test_other_threads_run_while_a_cut_is_awaited(open_engine: OpenEngine) -> None:
    # Were the GIL held, nobody could ask for the flush and the wait would end without a cut.
    engine = open_engine(flush_interval_seconds=3600)
    engine.submit(batch(EVENT))
    waiting = threading.Event()
    found: list[_core.Cut | None] = []

    def committer() -> None:
        waiting.set()
        found.append(engine.core.next_cut(CUT_MS))

    thread = threading.Thread(target=committer)
    thread.start()
    assert waiting.wait(10)
    engine.core.flush()
    thread.join(CUT_MS / 1000)
    assert found
    assert found[0] is not None


def test_records_that_no_table_passed_are_seen_by_the_next_opening(
    open_engine: OpenEngine,
) -> None:
    first = open_engine(flush_interval_seconds=3600)
    position = first.submit(batch(EVENT)).log_position
    first.core.drain_and_stop_admission()
    first.core.close()

    second = open_engine(start=False, flush_interval_seconds=3600)

    assert [(low, high) for _, low, high in second.core.lanes()] == [(position, position)]
    second.core.start({"events": {}, "rejected": {}})
    second.core.flush()
    cut = second.core.next_cut(CUT_MS)
    assert cut is not None
    assert sum(file.rows for file in cut.files["events"]) == 1


def test_metrics_and_state_are_text(open_engine: OpenEngine) -> None:
    engine = open_engine()
    engine.submit(batch(EVENT))
    assert engine.core.state() == ("ready", "")
    metrics = engine.core.metrics()
    assert "penstock_" in metrics
    # SEC-2: no token and no payload in a metric.
    assert "phc_boundary" not in metrics
    assert "signed up" not in metrics
