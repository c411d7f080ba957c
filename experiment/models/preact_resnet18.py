from collections.abc import Sequence

from torch import Tensor, nn

from experiment.models.network import Network


class PreActResNet18(Network):
    """He et al., "Identity Mappings in Deep Residual Networks", 2016, as adversarial training uses it on CIFAR.

    A 3x3 first convolution without stride, stages of 64, 128, 256 and 512 channels, and a last batch norm and
    activation before the pooling: the version of DEAT (TrustAI/DEAT, `preact_resnet.py`), whose projection shortcuts,
    unlike the paper's, start before the block's first batch norm. PyTorch's default initialisation. Narrower and with a
    stride it can be trained on a CPU.
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
        body = nn.Sequential(
            Block(width, width, 1, activation),
            Block(width, width, 1, activation),
            Block(width, 2 * width, 2, activation),
            Block(2 * width, 2 * width, 1, activation),
            Block(2 * width, 4 * width, 2, activation),
            Block(4 * width, 4 * width, 1, activation),
            Block(4 * width, 8 * width, 2, activation),
            Block(8 * width, 8 * width, 1, activation),
            nn.BatchNorm2d(8 * width),
            activation(),
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
    """Batch norm, activation, convolution, twice; plus the input, projected where the shape changes."""

    def __init__(self, channels: int, out_channels: int, stride: int, activation: type[nn.Module]):
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(channels),
            activation(),
            nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            activation(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        same_shape = stride == 1 and channels == out_channels
        self.shortcut = nn.Identity() if same_shape else nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)
