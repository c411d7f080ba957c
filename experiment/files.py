"""Writing files where others may have put something: what lies there is replaced or refused, never written through."""

import errno
import os
from pathlib import Path
from typing import IO, Any

from experiment.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either what it held or all of it, whenever the machine stops.

    A symbolic link at `path` is replaced; what it points to stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:  # which follows no link
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_own(path: Path, mode: str) -> IO[Any]:
    """`open`, for a file that is written bit by bit. Raises UserError where `path` is a symbolic link."""
    try:
        return open(path, mode, opener=_no_link)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UserError(f"{path} is a symbolic link, and what it points to would be written to; delete it") from None


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)  # a pipe without a reader would wait for one
