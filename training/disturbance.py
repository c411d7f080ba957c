"""Whether other work on the machine slowed a run down: its seconds then say little of what the run costs.

What is measured while the clock runs: the CPU time of the process; how many of the cores it may use others kept busy;
how many of the machine's other cores were busy; and, afterwards, by how much the epochs took longer than the quicker
ones among them.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiment import cores

LEAST_SHARE = 0.90  # of the seconds, CPU time of a run that computes on the CPU; with nothing beside it, it has 0.98
OVERLAP = 0.10  # cores for each thread of the run, that others may keep busy of those it needs
MOST_SPREAD = 0.15  # with nothing beside them, runs of a second have 0.01 to 0.05


def busy_seconds() -> float:
    """CPU seconds that anyone used of the cores this process may run on; NaN where the kernel does not tell."""
    times = [time for thread, time in cores.busy().items() if thread in cores.allowed()]
    return sum(times) if times else math.nan


def elsewhere_seconds() -> float:
    """CPU seconds that anyone used of the machine's other cores; NaN where the kernel does not tell."""
    found = cores.busy()
    return sum(found[thread] for thread in found.keys() - cores.allowed()) if found else math.nan


class Load:
    """CPU seconds between any `start` and `stop`: of this process, of all on its cores, and of all on other cores."""

    def __init__(
        self,
        own: Callable[[], float] = time.process_time,
        here: Callable[[], float] = busy_seconds,
        elsewhere: Callable[[], float] = elsewhere_seconds,
    ):
        self.seconds = (0.0, 0.0, 0.0)
        self._clocks = own, here, elsewhere
        self._started = self.seconds

    @property
    def cpu_seconds(self) -> float:
        """Of this process."""
        return self.seconds[0]

    def start(self) -> None:
        own, here, elsewhere = self._clocks
        self._started = own(), here(), elsewhere()

    def stop(self) -> None:
        now = (clock() for clock in self._clocks)
        own, here, elsewhere = (a + b - c for a, b, c in zip(self.seconds, now, self._started, strict=True))
        self.seconds = own, here, elsewhere

    def others_cores(self, seconds: float) -> float | None:
        """How many of its cores others kept busy, in the mean over the clock's seconds; None where that is not known.

        A kernel that shows less than what this process alone used shows nothing (some sandboxes have zeros).
        """
        own, here, _ = self.seconds
        if math.isnan(here) or here < own / 2:
            return None
        return max(0.0, here - own) / seconds

    def cores_beside(self, seconds: float) -> float | None:
        """How many of the machine's other cores were busy meanwhile, as for `others_cores`."""
        elsewhere = self.seconds[2]
        return None if self.others_cores(seconds) is None or math.isnan(elsewhere) else elsewhere / seconds


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
