"""Which threads of the process may interrupt others on a processor, by how busy it is.

The loop, gRPC's threads and the core's wake each other for each request. Where they share a
processor and each may interrupt the others, the one that is woken takes it from the one that woke
it, in the middle of a read: requests come to the log one by one, and up to a third of the time goes
into switching. Where none may, a request waits for whoever builds segments, at each hand-over
until the kernel's next tick, which is 4 ms.

So the process runs under `SCHED_BATCH`, in which no thread interrupts another; and while there
is time to spare, the two that every request waits for, the loop and the log's thread, are taken out
of it: they run as soon as they are woken. Two cores, server pinned to one, Linux 6.18, by turns:

| | all in batches | loop and log not |
|---|---|---|
| 800 requests/s of 50, half of what the core carries: p99 | 7.5 ms | 4.8 ms |
| the same: p90 | 4.7 ms | 1.5 ms |
| requests of one event, each connection at once: per CPU second | 21 k | 24 k |
| gRPC, the same: events per CPU second | 87 k | 72 k |

Even so a thread that is woken waits until the one that runs has had its slice of time, 1.4 ms or
up to the next tick. So the two have the shortest slice that there is. Of 5,300 requests in 7 s,
traced: the loop was woken while segments were built, and ran more than 0.7 ms later, 82 times, 239
ms in all; with the short slice 4 times, 9 ms.

Whether a thread that is woken takes the processor also depends on what it had before: who just
ran has to wait for its fair share, and nobody looks again before the tick. The log's thread is
woken three times in a sync, and of 14 s, traced, it waited for whoever built for 220 ms, up to 4 at
a time. A thread under `SCHED_IDLE` gives way at once: 17 ms, though even then a thread that has
just run may wait for the tick. So those that write the tables have that policy while there is time
to spare, where it can be left again: without `CAP_SYS_NICE` or a `RLIMIT_NICE` (`LimitNICE=` of
systemd) it can't, and they would stay behind for ever. As other programs come first too, it is left
for a while where they get less than a fifth of the time that they want. Only these: others hold
locks that requests wait for, and under this policy would be interrupted with them. At 800
requests/s, on one server whose policies changed each 2.6 s, medians of 25 such spans:

| | building at a lower priority | under `SCHED_IDLE` |
|---|---|---|
| p99 | 5.3 ms | 4.0 ms |
| p90 | 1.9 ms | 1.45 ms |

Committing under it too made 4.3 ms of 5.4 in another run.

To look at the threads is work of the loop's: when it read thirty files each 0.25 s it kept the loop
for 1 to 2.5 ms, for which of 800 requests a second eight waited, one in a hundred. Now it reads
three or four a second: p99 2.2 ms instead of 3.1, medians of 4 runs by turns.

A matter of speed only: a sandbox that does not allow it, or a system without it, changes nothing
else.
"""

import contextlib
import ctypes
import os
import platform
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# The name that `rust_core/wal` gives to the thread that writes and syncs.
_LOG_THREAD: Final = "penstock-log"
# Those that `rust_core/engine` and the table's library give to the threads that build segments and
# commit them.
_WRITING_THREADS: Final = ("penstock-build", "tokio-rt-worker")
# Of the time of all processors that the process may use: above, switching costs what requests need;
# below, there is time to spare. Half load uses 0.65, with all that an event costs.
_BUSY_SHARE: Final = 0.9
_CALM_SHARE: Final = 0.75
# Looks over which the share is taken. With one each 0.25 s these are two seconds: the cut at the
# end of a flush interval keeps a processor busy for some 0.3 s, and then others must not wait.
_LOOKS: Final = 8
# Every so many looks threads are looked for, and what writing gets is read: 0.1 ms at the least, in
# which the loop answers nobody. At each look it was one in a hundred requests that waited for it.
_THREAD_LOOKS: Final = 4

# Of the time that writing wants, what it has to get; where it wants this share of a processor.
_LEAST_WRITING_SHARE: Final = 0.2
_WANTED_SHARE: Final = 0.5
# How long it has its usual policy after it got less: what it missed in the two or three seconds
# until that was seen is a small part of it.
_STARVED_SECONDS: Final = 60.0

# Policies, with the slice in nanoseconds: 0 for the usual one.
_IN_BATCHES: Final = ("SCHED_BATCH", 0)
_YIELDING: Final = ("SCHED_IDLE", 0)

_TASKS: Final = "/proc/self/task"

# The least that Linux takes, from 6.12 on; before, it takes none.
_SHORT_SLICE_NANOS: Final = 100_000
# The system call that sets it, for which Python and older C libraries have no function.
# Architectures newer than x86-64 share one list of numbers.
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_LIBC: Final = ctypes.CDLL(None)
# `struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period.
_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")


def schedule_in_batches() -> None:
    """Let the caller, and all threads that it starts later, interrupt no other."""
    _set_policy(0, *_IN_BATCHES)


class Scheduling:
    """While there is time to spare, lets the loop and the log's thread interrupt others.

    And the threads that write the tables be interrupted by all. Made and used by the loop's thread,
    after `schedule_in_batches`.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._looks: deque[tuple[float, float]] = deque(maxlen=_LOOKS + 1)
        self._looks_until_threads = 0
        self._accounts: deque[tuple[float, _Account]] = deque(maxlen=_LOOKS // _THREAD_LOOKS + 1)
        # By their numbers, 0 for the loop's: the names of threads, and what was last set.
        self._names: dict[int, str | None] = {}
        self._set: dict[int, tuple[str, int]] = {}
        self._idle_allowed = _idle_can_be_left()
        self._starved_until = float("-inf")
        self.interrupting = True

    def look(self) -> None:
        """See how busy the process is, and set the threads accordingly.

        Cost: 0.1 ms, and 0.5 when threads are looked for; with 28 of them, not in a cache.
        """
        now = self._clock()
        self._looks.append((now, self._cpu_clock()))
        (began, cpu_began), (_, cpu_now) = self._looks[0], self._looks[-1]
        if len(self._looks) > _LOOKS and now > began:
            share = (cpu_now - cpu_began) / (now - began) / _processors()
            if share > _BUSY_SHARE:
                self.interrupting = False
            elif share < _CALM_SHARE:
                self.interrupting = True
        if self._looks_until_threads == 0:
            self._looks_until_threads = _THREAD_LOOKS
            self._look_at_threads(now)
        self._looks_until_threads -= 1
        interrupting = ("SCHED_OTHER", _SHORT_SLICE_NANOS) if self.interrupting else _IN_BATCHES
        for thread in (0, *self._named(_LOG_THREAD)):
            self._want(thread, interrupting)
        if self._idle_allowed:
            yielding = self._is_writing_to_yield(now)
            for thread in self._named(*_WRITING_THREADS):
                self._want(thread, _YIELDING if yielding else _IN_BATCHES)

    def _look_at_threads(self, now: float) -> None:
        self._names = _name_threads(self._names)
        self._set = {
            thread: policy for thread, policy in self._set.items() if thread in self._names
        }
        if self._idle_allowed and self._is_writing_to_yield(now):
            account = _Account()
            for thread in self._named(*_WRITING_THREADS):
                account = account.plus(_read_account(thread))
            self._accounts.append((now, account))
            if self._is_writing_starved():
                self._starved_until = now + _STARVED_SECONDS
        else:
            # What it gets under another policy says nothing of this one.
            self._accounts.clear()

    def _is_writing_to_yield(self, now: float) -> bool:
        return self.interrupting and now >= self._starved_until

    def _named(self, *names: str) -> list[int]:
        return [thread for thread, name in self._names.items() if name in names]

    def _want(self, thread: int, policy: tuple[str, int]) -> None:
        if self._set.get(thread) != policy:
            _set_policy(thread, *policy)
            self._set[thread] = policy

    def _is_writing_starved(self) -> bool:
        (began, before), (now, account) = self._accounts[0], self._accounts[-1]
        ran = account.ran_seconds - before.ran_seconds
        wanted = ran + account.waited_seconds - before.waited_seconds
        return (
            len(self._accounts) == self._accounts.maxlen
            and wanted > _WANTED_SHARE * (now - began)
            and ran < _LEAST_WRITING_SHARE * wanted
        )


@dataclass(frozen=True)
class _Account:
    """Of a processor's time, what threads had since they began and what they waited for."""

    ran_seconds: float = 0.0
    waited_seconds: float = 0.0

    def plus(self, other: "_Account") -> "_Account":
        return _Account(
            self.ran_seconds + other.ran_seconds, self.waited_seconds + other.waited_seconds
        )


def _read_account(thread: int) -> _Account:
    """Read a thread's account; nothing where the kernel keeps none, or it has ended."""
    try:
        ran_nanos, waited_nanos, _ = _read(f"{_TASKS}/{thread}/schedstat").split()
    except (OSError, ValueError):
        return _Account()
    return _Account(int(ran_nanos) / 1e9, int(waited_nanos) / 1e9)


def _name_threads(known: dict[int, str | None]) -> dict[int, str | None]:
    """Name the threads that there are, 0 the caller's; None for one that may still get its own.

    Only those are asked that have no name in `known`.
    """
    names: dict[int, str | None] = {0: ""}
    with contextlib.suppress(OSError), os.scandir(_TASKS) as tasks:
        # What a new one has until it gives itself its own, which it does at once.
        inherited = _read(f"{_TASKS}/{os.getpid()}/comm")
        for task in tasks:
            thread = int(task.name)
            name = known.get(thread)
            with contextlib.suppress(OSError):
                if name is None:
                    name = _read(f"{task.path}/comm")
                    is_new = thread not in known
                    if is_new and name == inherited and thread != os.getpid():
                        name = None
                names[thread] = name
    return names


def _read(path: str) -> str:
    """Read a file of the kernel's that is one short line: a third of the time of `read_text`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 256).decode().strip()
    finally:
        os.close(descriptor)


def _idle_can_be_left() -> bool:
    """Try whether a thread under `SCHED_IDLE` may have another policy again: on one that ends."""
    tried = threading.Event()

    def there_and_back() -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            tried.set()

    thread = threading.Thread(target=there_and_back, name="penstock-policy", daemon=True)
    thread.start()
    thread.join()
    return tried.is_set()


def _set_policy(thread: int, policy: str, slice_nanos: int) -> None:
    """Set how a thread is scheduled, 0 for the caller."""
    # What a sandbox forbids, or does not know, is left as it is; a thread may have ended.
    with contextlib.suppress(AttributeError, OSError):
        number = getattr(os, policy)
        os.sched_setscheduler(thread, number, os.sched_param(0))
        _set_slice(thread, number, slice_nanos)


def _set_slice(thread: int, policy: int, nanos: int) -> None:
    """Set the slice of a thread that has this policy already; 0 for the usual one."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    # The call sets both; a nice value that somebody gave stays.
    nice = os.getpriority(os.PRIO_PROCESS, thread)
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, policy, 0, nice, 0, nanos, 0, 0)
    # What it answers makes no difference: where it can't be done, the slice stays as it was.
    _LIBC.syscall(ctypes.c_long(number), ctypes.c_int(thread), attributes, ctypes.c_uint(0))


def _processors() -> int:
    """Count those that the process may use. A container's quota of time is not seen."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1
