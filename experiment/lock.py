"""Locks that no crash leaves behind: the kernel frees them when their holder is gone, however it went."""

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from experiment.errors import UserError
from experiment.files import open_own

LOOK_AGAIN = 0.1  # seconds
TELL = 1.0  # seconds that go by before the user is told of a wait


def hold(path: Path) -> IO[str]:
    """Hold `path` as a lock for as long as the returned file is open.

    Raises UserError if someone else holds it, or if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _opened(path)
        if _taken([file]) is None:
            file.close()
            raise UserError(f"another process is at work on {path.parent}; wait for it or stop it")
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written to ({error.strerror or error}); make it writable") from None
    return file


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock at `path`: a job whose snakemake was killed may still be writing the same files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with any_of([path], f"another process to finish its work on {path.parent}"):
        yield


@contextmanager
def any_of(paths: Sequence[Path], awaited: str) -> Iterator[int]:
    """Hold the first of the locks at `paths` that is free, and yield its place in them; waits until there is one.

    awaited: what a wait of more than a second is said to be for, on standard output.
    """
    began, told = time.monotonic(), False
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(path)) for path in paths]
        while (place := _taken(files)) is None:
            if not told and time.monotonic() - began > TELL:
                print(f"waiting for {awaited}", flush=True)
                told = True
            time.sleep(LOOK_AGAIN)
        yield place


def _opened(path: Path) -> IO[str]:
    """The file of a lock, with what it holds: whatever lies there may be someone's."""
    return open_own(path, "a")


def _taken(files: Sequence[IO[str]]) -> int | None:
    for place, file in enumerate(files):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return place
    return None
