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

A matter of speed only: a sandbox that does not allow it, or a system without it, changes nothing
else. Neither change needs a privilege, unlike `SCHED_IDLE` for those who build, which could not be
left again when building falls behind.
"""

import contextlib
import ctypes
import os
import platform
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

# The name that `rust_core/wal` gives to the thread that writes and syncs.
_LOG_THREAD: Final = "penstock-log"
# Of the time of all processors that the process may use: above, switching costs what requests need;
# below, there is time to spare. Half load uses 0.65, with all that an event costs.
_BUSY_SHARE: Final = 0.9
_CALM_SHARE: Final = 0.75
# Looks over which the share is taken. With one each 0.25 s these are two seconds: the cut at the
# end of a flush interval keeps a processor busy for some 0.3 s, and then others must not wait.
_LOOKS: Final = 8

_TASKS: Final = Path("/proc/self/task")

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
    _set_policy(0, interrupting=False)


class Scheduling:
    """Lets the loop and the log's thread interrupt others while there is time to spare.

    Made and used by the loop's thread, after `schedule_in_batches`.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._looks: deque[tuple[float, float]] = deque(maxlen=_LOOKS + 1)
        self._log_thread: int | None = None
        self.interrupting = True

    def look(self) -> None:
        """See how busy the process is, and set both threads accordingly. Cost: 20 µs."""
        self._looks.append((self._clock(), self._cpu_clock()))
        (began, cpu_began), (now, cpu_now) = self._looks[0], self._looks[-1]
        if len(self._looks) > _LOOKS and now > began:
            share = (cpu_now - cpu_began) / (now - began) / _processors()
            if share > _BUSY_SHARE:
                self.interrupting = False
            elif share < _CALM_SHARE:
                self.interrupting = True
        _set_policy(0, interrupting=self.interrupting)
        # The log may have been opened anew, with another thread.
        if not self._set_log_thread():
            self._log_thread = _find_thread(_LOG_THREAD)
            self._set_log_thread()

    def _set_log_thread(self) -> bool:
        thread = self._log_thread
        return thread is not None and _set_policy(thread, interrupting=self.interrupting)


def _set_policy(thread: int, *, interrupting: bool) -> bool:
    """Set how a thread is scheduled, 0 for the caller. False if there is no such thread."""
    # What a sandbox forbids, or does not know, is left as it is.
    with contextlib.suppress(AttributeError, OSError):
        policy = os.SCHED_OTHER if interrupting else os.SCHED_BATCH
        try:
            os.sched_setscheduler(thread, policy, os.sched_param(0))
        except ProcessLookupError:
            return False
        _set_slice(thread, policy, _SHORT_SLICE_NANOS if interrupting else 0)
    return True


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


def _find_thread(name: str) -> int | None:
    with contextlib.suppress(OSError):
        for task in _TASKS.iterdir():
            with contextlib.suppress(OSError):
                if (task / "comm").read_text().strip() == name:
                    return int(task.name)
    return None
