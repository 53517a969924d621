"""How a process ends at a crash point; that servers survive it is for `tests/durability`."""

import signal
import subprocess
import sys

import pytest

from penstock import _core
from support.server import clean_environment

PASS_THREE_TIMES = """
from penstock import _core
for nth in range(1, 4):
    _core.crash_point("cut_in_tables")
    print(nth, flush=True)
    _core.crash_point("commit_begun")
"""


def run_with(**settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PASS_THREE_TIMES],
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.mark.parametrize(("at", "printed"), [("cut_in_tables", ""), ("cut_in_tables:3", "1\n2\n")])
def test_a_process_is_gone_at_the_pass_that_was_named(at: str, printed: str) -> None:
    done = run_with(crash_at=at)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == printed
    assert done.stderr == "crash point cut_in_tables passed\n"


@pytest.mark.parametrize(
    "settings", [{}, {"crash_at": "cut_built"}, {"crash_at": "commit_begun:4"}]
)
def test_points_that_are_not_named_are_nothing(settings: dict[str, object]) -> None:
    done = run_with(**settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n2\n3\n", "")


@pytest.mark.parametrize("at", ["nowhere", "cut_built:0", "cut_built:x", ""])
def test_a_crash_that_can_not_happen_is_an_error(at: str) -> None:
    done = run_with(crash_at=at)
    assert done.returncode == 1
    assert f"PENSTOCK_CRASH_AT={at} is no crash point" in done.stderr


def test_a_point_that_is_not_of_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match="no crash point nowhere"):
        _core.crash_point("nowhere")
    assert len(set(_core.crash_points())) == len(_core.crash_points())
