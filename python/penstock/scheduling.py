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

A matter of speed only: a sandbox that does not allow it, or a system without it, changes nothing
else. Neither change needs a privilege, unlike `SCHED_IDLE` for those who build, which could not be
left again when building falls behind.
"""

import contextlib
import os
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
        """See how busy the process is, and set both threads accordingly. Cost: 10 µs."""
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
    return True


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
