"""The clock of training: it runs while minibatches are trained and stands while anything else happens."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from experiment import provenance
from training.disturbance import Load


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """The highest use of memory, in bytes, between any `start` and `stop`.

    Of a GPU: PyTorch's allocations. Of a CPU: the whole process, PyTorch and all that stays loaded included; where the
    kernel does not let a process reset its own mark (no /proc/self/clear_refs), also what came before `start`.
    """

    def __init__(self, device: torch.device):
        self.bytes = 0
        self.of = "gpu" if device.type == "cuda" else "process"
        self._device = device

    def start(self) -> None:
        provenance.reset_peak_memory(self._device)

    def stop(self) -> None:
        self.bytes = max(self.bytes, provenance.peak_memory(self._device)[0])


class Clock:
    """Seconds between `start` and `stop`, summed over the parts of a resumed run; the device is idle at both ends.

    warmup_seconds: what `warming_up` took, none of it in `seconds`; memory: its peak while the clock runs; load: of the
    CPU, by this process and others, meanwhile.
    """

    def __init__(
        self,
        device: torch.device,
        seconds: float = 0.0,
        now: Callable[[], float] = time.perf_counter,
        load: Load | None = None,
    ):
        self.seconds = seconds
        self.warmup_seconds = 0.0
        self.memory = PeakMemory(device)
        self.load = load or Load()
        self._device = device
        self._now = now
        self._started: float | None = None

    def start(self) -> None:
        synchronize(self._device)
        self.memory.start()
        self.load.start()
        self._started = self._now()

    def stop(self) -> None:
        synchronize(self._device)
        self.seconds += self._now() - self._started
        self.load.stop()
        self.memory.stop()
        self._started = None

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Stand still for what is done once so that minibatches run fast, and note how long it takes."""
        self.stop()
        began = self._now()
        yield
        synchronize(self._device)
        self.warmup_seconds += self._now() - began
        self.start()
