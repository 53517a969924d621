"""Who may interrupt whom follows how busy the process is, and nothing else depends on it."""

import errno
import os
import platform
import subprocess
import sys

import pytest

from penstock import scheduling
from penstock.scheduling import Scheduling, schedule_in_batches

LOOK_SECONDS = 0.25
LOG_THREAD = 7


class Threads:
    """Stands for the kernel: what was set of which thread."""

    def __init__(self) -> None:
        self.policies: dict[int, int] = {}
        self.slices: dict[int, int] = {}
        self.log_thread = LOG_THREAD
        self.refuses: OSError | None = None

    def set(self, thread: int, policy: int, param: os.sched_param) -> None:
        assert param.sched_priority == 0
        if self.refuses is not None:
            raise self.refuses
        if thread not in {0, self.log_thread}:
            raise ProcessLookupError
        self.policies[thread] = policy

    def set_slice(self, thread: int, policy: int, nanos: int) -> None:
        assert self.policies[thread] == policy
        self.slices[thread] = nanos


class Load:
    """A clock, and the time of processors that was used by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.used = 5.0

    def run(self, subject: Scheduling, seconds: float, cores: float) -> None:
        for _ in range(round(seconds / LOOK_SECONDS)):
            self.now += LOOK_SECONDS
            self.used += LOOK_SECONDS * cores
            subject.look()


@pytest.fixture
def threads(monkeypatch):
    threads = Threads()
    monkeypatch.setattr(os, "sched_setscheduler", threads.set)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(scheduling, "_set_slice", threads.set_slice)
    monkeypatch.setattr(scheduling, "_find_thread", lambda _: threads.log_thread)
    return threads


@pytest.fixture
def load():
    return Load()


@pytest.fixture
def subject(threads, load):
    schedule_in_batches()
    assert threads.policies == {0: os.SCHED_BATCH}
    return Scheduling(lambda: load.now, lambda: load.used)


def test_at_half_load_loop_and_log_may_interrupt(subject, threads, load):
    load.run(subject, 10, cores=1.3)
    assert threads.policies == {0: os.SCHED_OTHER, LOG_THREAD: os.SCHED_OTHER}
    assert set(threads.slices) == {0, LOG_THREAD}
    assert all(0 < nanos < 1_000_000 for nanos in threads.slices.values())


def test_with_no_time_to_spare_nobody_may_until_there_is_again(subject, threads, load):
    load.run(subject, 3, cores=1.95)
    assert threads.policies == {0: os.SCHED_BATCH, LOG_THREAD: os.SCHED_BATCH}
    assert threads.slices == {0: 0, LOG_THREAD: 0}, "the usual slice"
    load.run(subject, 10, cores=1.65)
    assert not subject.interrupting, "near the bound it does not go to and fro"
    load.run(subject, 3, cores=1.2)
    assert threads.policies == {0: os.SCHED_OTHER, LOG_THREAD: os.SCHED_OTHER}


def test_the_end_of_a_flush_interval_changes_nothing(subject, load):
    load.run(subject, 5, cores=1.3)
    load.run(subject, 0.5, cores=2)
    assert subject.interrupting


def test_a_log_that_was_opened_anew_has_another_thread(subject, threads, load):
    load.run(subject, 1, cores=0.1)
    threads.log_thread = 9
    load.run(subject, LOOK_SECONDS, cores=0.1)
    assert threads.policies[9] == os.SCHED_OTHER


@pytest.mark.parametrize("refusal", [PermissionError(), OSError(errno.ENOSYS, "unknown call")])
def test_where_it_is_not_allowed_nothing_happens(subject, threads, load, refusal):
    threads.refuses = refusal
    load.run(subject, 3, cores=1.9)
    assert threads.policies == {0: os.SCHED_BATCH}


def test_on_a_system_without_it_nothing_happens(subject, threads, load, monkeypatch):
    for name in ("SCHED_OTHER", "SCHED_BATCH", "sched_setscheduler", "sched_getaffinity"):
        monkeypatch.delattr(os, name)
    load.run(subject, 3, cores=1.9)
    assert len(threads.policies) == 1


def test_a_nice_value_stays_where_a_slice_is_set():
    script = (
        "import os; from penstock.scheduling import Scheduling, schedule_in_batches; os.nice(3);"
        "schedule_in_batches(); Scheduling().look();"
        "print(os.sched_getscheduler(0), os.nice(0))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert printed.split() == [str(os.SCHED_OTHER), "3"]


def test_a_machine_whose_number_is_not_known_keeps_its_slices(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    monkeypatch.setattr(scheduling, "_LIBC", None)
    scheduling._set_slice(0, os.SCHED_OTHER, 0)
