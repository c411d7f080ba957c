"""What every network has in common: normalisation inside, and the places where training methods cut it open."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """(x - mean) / std for each channel; mean and std are buffers of shape (1, C, 1, 1)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: int):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, channels, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Network(nn.Module):
    """Images x (N, C, H, W) in [0, 1] to logits (N, classes), in three parts.

    - `first_layer`: the normalisation and the first convolution. Nothing more, since YOPO's inner loop
      differentiates through it alone and takes the loss to depend on x only through its output;
      batch norm would tie the images of a minibatch together there, and its statistics would be updated too often.
    - `body`: from the output of `first_layer` to the flat penultimate features (N, D).
    - `classifier`: one linear layer, from the features to the logits.

    An architecture is a subclass whose constructor takes `classes, shape, mean, std, activation` (a class of
    torch.nn, to be called wherever the network has a nonlinearity) and hands the three parts to this one. Further
    arguments that have a default are keys of a suite's `network`: class attributes may say of each its least and
    largest value (`ranges`) and what it is (`about`).
    Activations are never in place: a smooth one needs its input in the backward, and an in-place ReLU is no faster.
    """

    def __init__(
        self,
        first_convolution: nn.Conv2d,
        body: nn.Module,
        classifier: nn.Linear,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        self.first_layer = nn.Sequential(Normalise(mean, std, first_convolution.in_channels), first_convolution)
        self.body = body
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first_layer(x))

    def rest(self, hidden: Tensor) -> Tensor:
        """Logits (N, classes) from the output of `first_layer`."""
        return self.classifier(self.features(hidden))

    def features(self, hidden: Tensor) -> Tensor:
        """Penultimate features (N, D) from the output of `first_layer`."""
        return self.body(hidden)

    @property
    def std(self) -> Tensor:
        """(1, C, 1, 1); times a gradient with respect to x, it gives the one with respect to the normalised x."""
        return cast(Normalise, self.first_layer[0]).std
