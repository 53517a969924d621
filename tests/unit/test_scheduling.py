"""Who may interrupt whom follows how busy the process is, and nothing else depends on it."""

import errno
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from penstock import scheduling
from penstock.scheduling import Scheduling, schedule_in_batches

LOOK_SECONDS = 0.25
LOG_THREAD = 7
BUILD_THREAD = 8
COMMIT_THREAD = 9
OTHER_THREAD = 10
SCRATCH_THREAD = 11
# More than there can be.
NO_THREAD = 2**22 + 1
WRITING = (BUILD_THREAD, COMMIT_THREAD)
CALM = dict.fromkeys((0, LOG_THREAD), os.SCHED_OTHER) | dict.fromkeys(WRITING, os.SCHED_IDLE)


class Threads:
    """Stands for the kernel: what was set of which thread, 0 for the loop's."""

    def __init__(self) -> None:
        self.policies: dict[int, int] = {}
        self.slices: dict[int, int] = {}
        self.names = {
            0: "",
            LOG_THREAD: "penstock-log",
            BUILD_THREAD: "penstock-build",
            COMMIT_THREAD: "tokio-rt-worker",
            OTHER_THREAD: "penstock-seal",
        }
        self.refuses: OSError | None = None
        self.idle_is_for_good = False
        self.writing_ran_seconds = self.writing_waited_seconds = 0.0

    def set(self, thread: int, policy: int, param: os.sched_param) -> None:
        assert param.sched_priority == 0
        thread = self.which(thread)
        if self.refuses is not None:
            raise self.refuses
        if thread not in {SCRATCH_THREAD, *self.names}:
            raise ProcessLookupError
        if self.idle_is_for_good and self.policies.get(thread) == os.SCHED_IDLE:
            raise PermissionError
        self.policies[thread] = policy

    def set_slice(self, thread: int, policy: int, nanos: int) -> None:
        assert self.policies[self.which(thread)] == policy
        self.slices[self.which(thread)] = nanos

    def which(self, thread: int) -> int:
        on_loop = threading.current_thread() is threading.main_thread()
        return thread if thread or on_loop else SCRATCH_THREAD

    def account(self, thread: int) -> scheduling._Account:
        share = {BUILD_THREAD: 0.9, COMMIT_THREAD: 0.1}.get(thread, 0)
        return scheduling._Account(
            self.writing_ran_seconds * share, self.writing_waited_seconds * share
        )


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
    monkeypatch.setattr(scheduling, "_name_threads", lambda _: dict(threads.names))
    monkeypatch.setattr(scheduling, "_read_account", threads.account)
    return threads


@pytest.fixture
def load():
    return Load()


@pytest.fixture
def subject(threads, load):
    schedule_in_batches()
    assert threads.policies == {0: os.SCHED_BATCH}
    subject = Scheduling(lambda: load.now, lambda: load.used)
    threads.policies.pop(SCRATCH_THREAD, None)
    return subject


def test_at_half_load_loop_and_log_may_interrupt(subject, threads, load):
    load.run(subject, 10, cores=1.3)
    assert threads.policies == CALM
    assert not any(threads.slices[thread] for thread in WRITING)
    assert all(0 < threads.slices[thread] < 1_000_000 for thread in (0, LOG_THREAD))


def test_with_no_time_to_spare_nobody_may_until_there_is_again(subject, threads, load):
    load.run(subject, 3, cores=1.95)
    assert threads.policies == dict.fromkeys(CALM, os.SCHED_BATCH)
    assert not any(threads.slices.values()), "the usual slice"
    load.run(subject, 10, cores=1.65)
    assert not subject.interrupting, "near the bound it does not go to and fro"
    load.run(subject, 3, cores=1.2)
    assert threads.policies == CALM


def test_the_end_of_a_flush_interval_changes_nothing(subject, load):
    load.run(subject, 5, cores=1.3)
    load.run(subject, 0.5, cores=2)
    assert subject.interrupting


def test_a_log_that_was_opened_anew_has_another_thread(subject, threads, load):
    load.run(subject, 1, cores=0.1)
    threads.names = {0: "", 17: "penstock-log", 18: "penstock-build"}
    load.run(subject, 1, cores=0.1)
    assert threads.policies[17] == os.SCHED_OTHER
    assert threads.policies[18] == os.SCHED_IDLE


def test_files_of_threads_are_read_once_a_second(subject, threads, load, monkeypatch):
    read = []

    def name_threads(_):
        read.append("names")
        return threads.names

    def read_account(thread):
        read.append("account")
        return threads.account(thread)

    monkeypatch.setattr(scheduling, "_name_threads", name_threads)
    monkeypatch.setattr(scheduling, "_read_account", read_account)
    load.run(subject, 10, cores=0.5)
    assert read == ["names", "account", "account"] * 10


def write(threads, load, subject, seconds, *, ran, waited, cores=0.5):
    for _ in range(round(seconds / LOOK_SECONDS)):
        threads.writing_ran_seconds += LOOK_SECONDS * ran
        threads.writing_waited_seconds += LOOK_SECONDS * waited
        load.run(subject, LOOK_SECONDS, cores=cores)


def test_writing_that_others_keep_from_a_processor_takes_its_share_for_a_while(
    subject, threads, load
):
    write(threads, load, subject, 10, ran=0.3, waited=0.5)
    assert threads.policies == CALM, "it waits, but gets what it needs"
    write(threads, load, subject, 10, ran=0.001, waited=0.2)
    assert threads.policies == CALM, "there is little to do"
    write(threads, load, subject, 3, ran=0.01, waited=0.99)
    assert threads.policies == CALM | dict.fromkeys(WRITING, os.SCHED_BATCH)
    write(threads, load, subject, 50, ran=0.3, waited=0.5)
    assert threads.policies[BUILD_THREAD] == os.SCHED_BATCH
    write(threads, load, subject, 15, ran=0.3, waited=0.5)
    assert threads.policies == CALM


def test_what_a_burst_keeps_from_writing_does_not_count_once_it_is_over(subject, threads, load):
    write(threads, load, subject, 10, ran=0.05, waited=0.95, cores=2)
    assert threads.policies == dict.fromkeys(CALM, os.SCHED_BATCH)
    write(threads, load, subject, 3, ran=0.5, waited=0.3, cores=1)
    assert threads.policies == CALM


def test_a_policy_that_could_not_be_left_again_is_never_taken(threads, load):
    threads.idle_is_for_good = True
    subject = Scheduling(lambda: load.now, lambda: load.used)
    load.run(subject, 3, cores=0.5)
    assert threads.policies[SCRATCH_THREAD] == os.SCHED_IDLE, "it was tried"
    assert BUILD_THREAD not in threads.policies


def test_the_account_of_a_thread_is_read():
    thread = threading.get_native_id()
    before = scheduling._read_account(thread)
    if before == scheduling._Account():
        pytest.skip("this kernel keeps no account of threads")
    ends = time.thread_time() + 0.05
    while time.thread_time() < ends:
        pass
    assert 0.04 < scheduling._read_account(thread).ran_seconds - before.ran_seconds < 0.5
    assert scheduling._read_account(NO_THREAD) == scheduling._Account()


def test_threads_are_named_until_they_end():
    def name_own() -> None:
        start.wait(60)
        Path("/proc/thread-self/comm").write_text("some-thread")
        named.set()
        end.wait(60)

    start, named, end = threading.Event(), threading.Event(), threading.Event()
    thread = threading.Thread(target=name_own)
    thread.start()
    assert thread.native_id is not None
    names = scheduling._name_threads({NO_THREAD: "gone"})
    assert names[0] == ""
    assert names[thread.native_id] is None, "it has that of who started it, until"
    assert names[os.getpid()]
    start.set()
    named.wait(60)
    names = scheduling._name_threads(names)
    assert names[thread.native_id] == "some-thread"
    assert NO_THREAD not in names
    Path(f"/proc/self/task/{thread.native_id}/comm").write_text("another")
    names = scheduling._name_threads(names)
    assert names[thread.native_id] == "some-thread", "it is asked no more"
    end.set()
    thread.join()
    # The kernel may take a moment longer than the join.
    while thread.native_id in scheduling._name_threads(names):
        time.sleep(0.01)


@pytest.mark.parametrize("user", ["os.getuid()", "65534"])
def test_whether_idle_can_be_left_is_found_out_right(user):
    script = (
        "import os, threading; from penstock import scheduling;"
        f"os.getuid() == 0 and os.setuid({user});"
        "may = scheduling._idle_can_be_left();"
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0));"
        "from contextlib import suppress\n"
        "with suppress(PermissionError): os.sched_setscheduler(0, 0, os.sched_param(0))\n"
        "print(may == (os.sched_getscheduler(0) == 0))"
    )
    assert run_script(script) == ["True"]


@pytest.mark.parametrize("refusal", [PermissionError(), OSError(errno.ENOSYS, "unknown call")])
def test_where_it_is_not_allowed_nothing_happens(subject, threads, load, refusal):
    threads.refuses = refusal
    load.run(subject, 3, cores=1.9)
    assert threads.policies == {0: os.SCHED_BATCH}


def test_on_a_system_without_it_nothing_happens(subject, threads, load, monkeypatch):
    for name in (
        "SCHED_OTHER",
        "SCHED_BATCH",
        "SCHED_IDLE",
        "sched_setscheduler",
        "sched_getaffinity",
    ):
        monkeypatch.delattr(os, name)
    load.run(subject, 3, cores=1.9)
    assert len(threads.policies) == 1


def run_script(script: str) -> list[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_a_nice_value_stays_where_a_slice_is_set():
    script = (
        "import os; from penstock.scheduling import Scheduling, schedule_in_batches; os.nice(3);"
        "schedule_in_batches(); Scheduling().look();"
        "print(os.sched_getscheduler(0), os.nice(0))"
    )
    assert run_script(script) == [str(os.SCHED_OTHER), "3"]


def test_a_machine_whose_number_is_not_known_keeps_its_slices(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    monkeypatch.setattr(scheduling, "_LIBC", None)
    scheduling._set_slice(0, os.SCHED_OTHER, 0)
