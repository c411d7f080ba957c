"""Locks that no crash leaves behind: the kernel frees them when their holder is gone, however it went."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiment.errors import UserError


def hold(path: Path):
    """Hold `path` as a lock for as long as the returned file is open.

    Raises UserError if someone else holds it, or if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115 - it stays open
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"another process is at work on {path.parent}; wait for it or stop it") from None
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written to ({error.strerror}); make it writable") from None
    return file


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for the lock at `path`: a job whose snakemake was killed may still be writing the same files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
