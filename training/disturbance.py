"""Whether other work on the machine slowed a run down: its seconds then say little of what the run costs.

What is measured while the clock runs: the CPU time of the process; how many of the cores it may use others kept busy;
and, afterwards, by how much the epochs took longer than the quicker ones among them.
"""

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

LEAST_SHARE = 0.90  # of the seconds, CPU time of a run that computes on the CPU; with nothing beside it, it has 0.98
OVERLAP = 0.10  # cores for each thread of the run, that others may keep busy of those it needs
MOST_SPREAD = 0.15  # with nothing beside them, runs of a second have 0.01 to 0.05
IDLE = {3, 4}  # fields of a core's line in /proc/stat: idle, and idle while waiting for a disk
TIME_FIELDS = 8  # those after them count a guest's time twice


def busy_seconds() -> float:
    """CPU seconds since the start of the machine that anyone used of the cores this process may run on.

    Time that a virtual machine was not given its core for is others' too. NaN where the kernel does not tell.
    """
    try:
        usable = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        cores = [line[1 : 1 + TIME_FIELDS] for line in lines if line and line[0] in usable]
        ticks = sum(int(value) for core in cores for field, value in enumerate(core) if field not in IDLE)
        return ticks / os.sysconf("SC_CLK_TCK") if cores else math.nan
    except (AttributeError, OSError, ValueError):  # no Linux
        return math.nan


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Load:
    """CPU seconds between any `start` and `stop`: of this process, and of all on its cores, itself included."""

    def __init__(self, own: Callable[[], float] = time.process_time, all_: Callable[[], float] = busy_seconds):
        self.cpu_seconds = self.busy_seconds = 0.0
        self._own, self._all = own, all_
        self._started = (0.0, 0.0)

    def start(self) -> None:
        self._started = self._own(), self._all()

    def stop(self) -> None:
        self.cpu_seconds += self._own() - self._started[0]
        self.busy_seconds += self._all() - self._started[1]

    def others_cores(self, seconds: float) -> float | None:
        """How many cores others kept busy, in the mean over the clock's seconds; None where that is not known.

        A kernel that shows less than what this process alone used shows nothing (some sandboxes have zeros).
        """
        if math.isnan(self.busy_seconds) or self.busy_seconds < self.cpu_seconds / 2:
            return None
        return max(0.0, self.busy_seconds - self.cpu_seconds) / seconds


def epoch_spread(rows: Sequence[Mapping]) -> float:
    """By how much all epochs together took longer than at the pace of the quicker ones of the same effort; 0.1 is 10 %.

    rows: those of epochs.csv. That pace is the lower quartile of seconds by compute, of epochs with as many steps. The
    first epoch, in which libraries set themselves up, is left out.
    """
    efforts = defaultdict(list)
    for row in rows[1:]:
        efforts[row["steps"]].append((row["seconds"], row["compute"]))
    taken = quick = 0.0
    for epochs in efforts.values():
        seconds, compute = np.array(epochs, dtype=float).T
        taken += seconds.sum()
        quick += np.quantile(seconds / compute, 0.25) * compute.sum()
    return float(taken / quick - 1) if quick else 0.0


def disturbed(
    *,
    seconds: float,
    cpu_seconds: float,
    others_cores: float | None,
    usable_cores: int,
    epoch_spread: float,
    threads: int,
    on_cpu: bool,
) -> str | None:
    """Why the seconds of a run are not to be believed, in words; None where nothing speaks against them.

    The first four and the spread as in records' `cost`. A run that computes on a GPU does not need the cores: there the
    spread alone counts.
    """
    reasons = []
    if on_cpu and cpu_seconds < LEAST_SHARE * seconds:
        reasons.append(f"it had a core for {cpu_seconds / seconds:.0%} of the time")
    needed = min(threads, usable_cores)
    if on_cpu and others_cores is not None and others_cores + needed > usable_cores + OVERLAP * needed:
        reasons.append(f"others kept {others_cores:.1f} of {usable_cores} cores busy, of which it needed {needed}")
    if epoch_spread > MOST_SPREAD:
        reasons.append(f"its epochs took {epoch_spread:.0%} longer than the quicker ones among them")
    return "; ".join(reasons) or None
