"""One job a GPU, and cores of its own for each timed run: what there is, and the locks by which jobs take turns.

`python -m experiment.slots` prints how many GPUs there are to share out.

The locks lie in a folder of the user's in the machine's temporary folder, whatever the results folder: the jobs of all
Snakemakes that a user runs on a machine take turns. Nothing here imports torch or initialises CUDA, which reads
CUDA_VISIBLE_DEVICES once: the slot must be taken before.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from experiment import cores
from experiment.errors import UserError
from experiment.lock import any_of

LOOK = 0.2  # seconds
VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"


@contextmanager
def gpu() -> Iterator[str | None]:
    """Wait for a GPU that no other job has, and let CUDA see it alone; None where there is no GPU.

    Of the GPUs in CUDA_VISIBLE_DEVICES where that is set, else of all. Yields the GPU as CUDA_VISIBLE_DEVICES names it.
    """
    ids = _ids()
    if not (names := _names(ids)):
        yield None
        return
    folder = _folder()
    locks = [folder / f"{_id(name, ids)}.lock" for name in names]
    with any_of(locks, f"a GPU; other jobs have {'it' if len(names) == 1 else f'all {len(names)}'}") as place:
        chosen = {VISIBLE: names[place]} | ({} if VISIBLE in os.environ else {ORDER: "PCI_BUS_ID"})  # as nvidia-smi's
        before = {key: os.environ.get(key) for key in chosen}
        os.environ.update(chosen)
        try:
            yield names[place]
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.update({key: value})


@contextmanager
def timed(gpu: str | None, threads: int | None = None) -> Iterator[None]:
    """Keep the process to `threads` cores that no other timed run has; waits until there are as many.

    To all of them on a machine with fewer, in a container that may use less than it sees, and where it is not said how
    many. A run that has a GPU, the slot `gpu`, need not, and keeps to nothing. Attacks are not timed and do not wait:
    where one takes a core that a run needs, the run's record says so. Threads that the process has already may still
    run elsewhere: before it computes, there are none that do.
    """
    if gpu is not None:
        yield
        return
    usable, before = cores.usable(), cores.allowed()
    needed = len(usable) if threads is None or at_once(threads) == 1 else threads
    awaited = f"{needed} of {len(usable)} cores; other runs are being timed on them"
    with ExitStack() as held:
        # One process at a time collects cores, or two might wait for each other's.
        with any_of([_folder() / "cpu.lock"], awaited):
            names = _idle_first(usable)
            locks = [_folder() / f"core-{name}.lock" for name in names]
            own = [usable[names[held.enter_context(any_of(locks, awaited))]] for _ in range(needed)]
        os.sched_setaffinity(0, set().union(*own))
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def at_once(threads: int | None) -> int:
    """How many runs of so many threads, or of all, can be timed at once on this machine's cores."""
    there = len(cores.usable())
    if threads is None or cores.quota() < there:  # which cores a container's time is taken from is not known
        return 1
    return max(1, there // threads)


def _idle_first(usable: dict[int, set[int]]) -> list[int]:
    """The cores' names, those first that nobody computes on now: other users' runs take locks of their own."""
    before = cores.busy()
    time.sleep(LOOK)
    after = cores.busy()
    took = {name: sum(after.get(t, 0) - before.get(t, 0) for t in threads) for name, threads in usable.items()}
    return sorted(usable, key=lambda name: (took[name] > LOOK / 2, name))


def count() -> int:
    """How many GPUs a job may have, as the driver's own tool lists them; no torch is needed to know."""
    return len(_names(_ids()))


def _names(ids: dict[str, str]) -> list[str]:
    """The GPUs that a job may use, as CUDA_VISIBLE_DEVICES names them: numbers, or names that are not looked into."""
    if (outside := os.environ.get(VISIBLE)) is None:
        return list(ids)
    names = [name.strip() for name in outside.split(",")]
    unknown = (place for place, name in enumerate(names) if not name or (name[0] in "-0123456789" and name not in ids))
    return names[: next(unknown, len(names))] if ids else []  # CUDA reads no further


def _ids() -> dict[str, str]:
    """The UUIDs of the machine's GPUs by their numbers, from the driver's own tool."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return dict(re.findall(r"^\s*(\d+),\s*(\S+)", "\n".join(lines), re.MULTILINE))


def _id(name: str, ids: dict[str, str]) -> str:
    """What a GPU's lock is called: its UUID, whichever of its names it goes by (a UUID may be cut short)."""
    whole = [uuid for uuid in ids.values() if name.startswith("GPU-") and uuid.startswith(name)]
    return re.sub(r"[^\w.-]", "_", ids.get(name) or (whole[0] if len(whole) == 1 else name))


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"slots-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise UserError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    return folder


if __name__ == "__main__":
    print(count())
