from collections.abc import Sequence
from math import ceil

from torch import nn

from experiment.models.network import Network


class SmallCNN(Network):
    """Three convolutions with batch norm and a linear layer: this suite's own, for the digits and Fashion-MNIST.

    Strides, as in Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015, take the place of
    pooling. Small enough for adversarial training on two CPU cores.
    """

    def __init__(
        self,
        *,
        classes: int,
        shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        activation: type[nn.Module],
    ):
        channels, height, width = shape
        body = nn.Sequential(
            nn.BatchNorm2d(16),
            activation(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            activation(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(64),
            activation(),
            nn.Flatten(),
        )
        super().__init__(
            nn.Conv2d(channels, 16, 3, padding=1, bias=False),
            body,
            nn.Linear(64 * ceil(height / 4) * ceil(width / 4), classes),
            mean=mean,
            std=std,
        )
