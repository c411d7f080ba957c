from collections.abc import Sequence
from math import ceil

from torch import nn

from experiment.models.network import Network


class SmallCNN(Network):
    """Three convolutions with batch norm and a linear layer: this suite's own, for the digits and Fashion-MNIST.

    Strides, as in Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015, take the place of
    pooling. At the default width small enough for adversarial training on two CPU cores.
    """

    ranges = {"width": (1, 1024)}
    about = {"width": "Channels of the first convolution; the others have twice and four times as many."}

    def __init__(
        self,
        *,
        classes: int,
        shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        activation: type[nn.Module],
        width: int = 16,
    ):
        channels, rows, columns = shape
        body = nn.Sequential(
            nn.BatchNorm2d(width),
            activation(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            activation(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            activation(),
            nn.Flatten(),
        )
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            body,
            nn.Linear(4 * width * ceil(rows / 4) * ceil(columns / 4), classes),
            mean=mean,
            std=std,
        )
