"""What a method is given: a minibatch, where in the run it comes, and what it is a minibatch of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

PADDING = 4  # pixels on each side before a random crop, as for CIFAR since He et al., 2016


@dataclass(frozen=True)
class Batch:
    """A minibatch of B images; all of it lies on the training device.

    images: (B, C, H, W) in [0, 1]; labels: (B,) int64; index: (B,) int64, the images' rows in the training split;
    shifts: (2, B) int64, the row and the column of the padded image at which each crop begins; flips: (B,) bool,
    whether a crop is mirrored. An image that is not augmented begins at (PADDING, PADDING) and is not mirrored.
    scalars: what `Method.schedule` says of this minibatch, tensors () of float32 by name.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    shifts: Tensor
    flips: Tensor
    scalars: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What differs from minibatch to minibatch, but for the scalars."""
        return self.images, self.labels, self.index, self.shifts, self.flips


@dataclass(frozen=True)
class Position:
    """Where in the run a minibatch comes; epoch and minibatch count from 0. minibatches: of an epoch."""

    epoch: int
    epochs: int
    minibatch: int
    minibatches: int


@dataclass(frozen=True)
class Split:
    """The training split: images: how many; shape: (C, H, W) of one; where: the training device."""

    images: int
    shape: tuple[int, ...]
    classes: int
    where: torch.device
