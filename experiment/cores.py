"""The cores of the machine: which this process may use, which hardware threads they have, how busy they were."""

import math
import os
import re
from pathlib import Path

TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
STAT = "/proc/stat"
QUOTA = "/sys/fs/cgroup/cpu.max"  # of a container: microseconds of CPU time, in so many of the clock's
IDLE = {3, 4}  # fields of a core's line in /proc/stat: idle, and idle while waiting for a disk
TIME_FIELDS = 8  # those after them count a guest's time twice


def usable() -> dict[int, set[int]]:
    """Each core by its number, the lowest of its hardware threads', with those that this process may run on.

    A virtual machine that does not tell which of them share a core has each for a core of its own.
    """
    cores: dict[int, set[int]] = {}
    for thread in sorted(allowed()):
        file = Path(TOPOLOGY.format(thread))
        siblings = re.match(r"\d+", file.read_text()) if file.exists() else None
        cores.setdefault(int(siblings[0]) if siblings else thread, set()).add(thread)
    return cores


def quota() -> float:
    """How many cores' time the container may take, of whichever cores; infinity where there is no limit."""
    try:
        given, period = Path(QUOTA).read_text().split()
        return float(given) / float(period)
    except (OSError, ValueError):  # no container, or "max"
        return math.inf


def busy() -> dict[int, float]:
    """CPU seconds since the start of the machine that anyone used, by hardware thread.

    Time that a virtual machine was not given its core for is others' too. Empty where the kernel does not tell.
    """
    found = {}
    try:
        for line in Path(STAT).read_text().splitlines():
            if name := re.match(r"cpu(\d+) ", line):
                times = line.split()[1 : 1 + TIME_FIELDS]
                ticks = sum(int(time) for field, time in enumerate(times) if field not in IDLE)
                found[int(name[1])] = ticks / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):  # no Linux
        return {}
    return found


def allowed() -> set[int]:
    """The hardware threads that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
