"""Minibatches: uint8 images that live on the training device, shuffled, augmented and scaled there."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.batch import PADDING, Batch


def seeded(device: torch.device | str, *numbers: int) -> torch.Generator:
    """A generator whose stream is a function of `numbers` (each below 2^32) alone."""
    state = 0
    for number in numbers:  # a fixed mix (splitmix64), for neighbouring numbers must give unrelated streams
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return torch.Generator(device).manual_seed(state % 2**63)


class Batches:
    """The training split as minibatches; what epoch e serves depends on (seed, e) alone, so all variants see the same.

    images: (N, C, H, W) uint8; labels: (N,) int64; both already on the device.
    augmentation: "none", "crop" (random crop after padding) or "crop_flip" (and a horizontal flip of every second).
    """

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, seed: int, augmentation: str):
        self.images, self._labels = images, labels
        self._batch_size, self._seed, self._augmentation = batch_size, seed, augmentation
        self._padded = images if augmentation == "none" else F.pad(images, [PADDING] * 4)

    def __len__(self) -> int:
        return -(-len(self.images) // self._batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Minibatches `start`, `start` + 1, ... of an epoch."""
        count, device = len(self.images), self.images.device
        order = torch.randperm(count, generator=seeded("cpu", self._seed, epoch, 0)).to(device)
        draw = seeded(device, self._seed, epoch, 1)
        shifts = torch.randint(0, 2 * PADDING + 1, (2, count), generator=draw, device=device)
        flips = torch.rand(count, generator=draw, device=device) < 0.5
        if self._augmentation == "none":
            shifts = torch.full_like(shifts, PADDING)
        if self._augmentation != "crop_flip":
            flips = torch.zeros_like(flips)
        for index in range(start, len(self)):
            places = slice(index * self._batch_size, (index + 1) * self._batch_size)
            chosen = order[places]
            shown = self._augmented(chosen, shifts[:, places], flips[places]).float().div_(255)
            yield Batch(shown, self._labels[chosen], chosen, shifts[:, places], flips[places])

    def _augmented(self, chosen: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
        """The chosen images, uint8, each shifted and flipped as told, by one gather."""
        if self._augmentation == "none":
            return self.images[chosen]
        height, width = self.images.shape[2:]
        rows = shifts[0, :, None] + torch.arange(height, device=chosen.device)
        columns = torch.arange(width, device=chosen.device).expand(len(chosen), width)
        if self._augmentation == "crop_flip":
            columns = torch.where(flips[:, None], columns.flip(1), columns)
        columns = shifts[1, :, None] + columns
        picked = self._padded[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
        return picked.permute(0, 3, 1, 2)
