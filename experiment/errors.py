"""What may stop a job, told to the user in one sentence."""

import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED")  # PyTorch's words, on either device
LONGEST = 2000  # of a sentence, in letters
NO_DEVICE = re.compile(r"CUDA (driver )?error|cuDNN error|CUBLAS_STATUS|CUDNN_STATUS|No CUDA GPUs")


class UserError(Exception):
    """A mistake in what the user gave; its text is one sentence: what is wrong, where, and what would be right."""

    def __init__(self, sentence: str):
        super().__init__(shortened(printable(sentence)))


def printable(text: str) -> str:
    """One line of it that moves no cursor and sets no colour: what has no shape of its own is shown as �."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in text)


def shortened(text: str) -> str:
    """The text, without its middle where it is longer than anyone reads."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def shown(value: object) -> str:
    """A value as a message shows it: its beginning, in one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


class StoppedError(BaseException):
    """The process is asked to end, by SIGINT or SIGTERM; no handler of errors is to take it for one."""

    def __init__(self, number: int):
        super().__init__(number)
        self.status = 128 + number  # as shells have it


def cause(error: Exception) -> str | None:
    """What went wrong, where the user, the memory, the disk or the device is to blame; None where the code is."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        asked = re.search(r"allocate ([\d.]+ \w+)", text)
        return f"out of memory{f' ({asked[1]} more were asked for)' if asked else ''}; free some and run it again"
    if isinstance(error, OSError):
        file = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or text}{file}"
    if isinstance(error, RuntimeError) and NO_DEVICE.search(text):
        return f"the GPU failed ({text.partition('. ')[0][:200]}); run it again when it is well"
    return None


@contextmanager
def reported(job: str) -> Iterator[None]:
    """End the process with one sentence that names `job`, instead of a traceback, unless the code is to blame.

    The exit status is 1, or 130 and 143 where SIGINT and SIGTERM ask for the end, which lets files be closed and locks
    be given back.
    """
    try:
        with _stoppable():
            yield
    except StoppedError as stopped:
        print(f"error: {job}: interrupted; the same command goes on", file=sys.stderr)
        sys.exit(stopped.status)
    except Exception as error:
        if (sentence := cause(error)) is None:
            raise
        sys.exit(printable(f"error: {job}: {sentence}"))


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise StoppedError, unless whoever started the process has them ignored."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedError(number)

    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in usual}
    ours = [number for number in usual if before[number] == usual[number]]
    if threading.current_thread() is not threading.main_thread():  # which alone may set them
        ours = []
    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
