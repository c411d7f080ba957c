from collections.abc import Sequence

from torch import Tensor, nn

from experiment.models.network import Network


class PreActResNet18(Network):
    """He et al., "Identity Mappings in Deep Residual Networks", 2016, as adversarial training uses it on CIFAR.

    A 3x3 first convolution without stride, stages of 64, 128, 256 and 512 channels, and a last batch norm and
    activation before the pooling: the version of DEAT (TrustAI/DEAT, `preact_resnet.py`), whose projection shortcuts,
    unlike the paper's, start before the block's first batch norm. PyTorch's default initialisation.
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
        body = nn.Sequential(
            Block(64, 64, 1, activation),
            Block(64, 64, 1, activation),
            Block(64, 128, 2, activation),
            Block(128, 128, 1, activation),
            Block(128, 256, 2, activation),
            Block(256, 256, 1, activation),
            Block(256, 512, 2, activation),
            Block(512, 512, 1, activation),
            nn.BatchNorm2d(512),
            activation(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        super().__init__(
            nn.Conv2d(shape[0], 64, 3, padding=1, bias=False), body, nn.Linear(512, classes), mean=mean, std=std
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
