"""What may stop a job, told to the user in one sentence."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED")  # PyTorch's words, on either device
NO_DEVICE = re.compile(r"CUDA (driver )?error|cuDNN error|CUBLAS_STATUS|CUDNN_STATUS|No CUDA GPUs")


class UserError(Exception):
    """A mistake in what the user gave; its text is one sentence: what is wrong, where, and what would be right."""


def shown(value) -> str:
    """A value as a message shows it: its beginning, in one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


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
def told(job: str) -> Iterator[None]:
    """End the process with one sentence that names `job`, instead of a traceback, unless the code is to blame."""
    try:
        yield
    except Exception as error:
        if (sentence := cause(error)) is None:
            raise
        sys.exit(f"error: {job}: {sentence}")
