from collections.abc import Sequence

from torch import Tensor, nn

from experiment.models.network import Network


class ResNet18(Network):
    """He et al., "Deep Residual Learning for Image Recognition", 2016, for small images.

    A 3x3 first convolution without stride and no max-pooling, stages of 64, 128, 256 and 512 channels, projection
    shortcuts with batch norm: the version that most methods' authors train on CIFAR. PyTorch's default initialisation.
    """

    ranges = {"width": (1, 1024), "stride": (1, 4)}
    about = {
        "width": "Channels of the first stage; the next ones have 2, 4 and 8 times as many.",
        "stride": "Of the first convolution; with 2 everything after it has a quarter of the pixels.",
    }

    def __init__(
        self,
        *,
        classes: int,
        shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        activation: type[nn.Module],
        width: int = 64,
        stride: int = 1,
    ):
        # The first convolution alone is the first layer: its batch norm and activation open the body.
        body = nn.Sequential(
            nn.BatchNorm2d(width),
            activation(),
            Block(width, width, 1, activation),
            Block(width, width, 1, activation),
            Block(width, 2 * width, 2, activation),
            Block(2 * width, 2 * width, 1, activation),
            Block(2 * width, 4 * width, 2, activation),
            Block(4 * width, 4 * width, 1, activation),
            Block(4 * width, 8 * width, 2, activation),
            Block(8 * width, 8 * width, 1, activation),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        super().__init__(
            nn.Conv2d(shape[0], width, 3, stride=stride, padding=1, bias=False),
            body,
            nn.Linear(8 * width, classes),
            mean=mean,
            std=std,
        )


class Block(nn.Module):
    """Convolution, batch norm, twice, with an activation between; plus the input, projected where the shape changes."""

    def __init__(self, channels: int, out_channels: int, stride: int, activation: type[nn.Module]):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            activation(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        same_shape = stride == 1 and channels == out_channels
        self.shortcut = (
            nn.Identity()
            if same_shape
            else nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        )
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.residual(x) + self.shortcut(x))
