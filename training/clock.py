"""The clock of training: it runs while minibatches are trained and stands while anything else happens."""

import time
from collections.abc import Callable

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock:
    """Seconds between `start` and `stop`, summed over the parts of a resumed run; the device is idle at both ends."""

    def __init__(self, device: torch.device, seconds: float = 0.0, now: Callable[[], float] = time.perf_counter):
        self.seconds = seconds
        self._device = device
        self._now = now
        self._started: float | None = None

    def start(self) -> None:
        synchronize(self._device)
        self._started = self._now()

    def stop(self) -> None:
        synchronize(self._device)
        self.seconds += self._now() - self._started
        self._started = None
