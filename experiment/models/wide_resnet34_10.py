from collections.abc import Sequence

from torch import Tensor, nn

from experiment.models.network import Network

DEPTH, WIDEN = 34, 10


class WideResNet34x10(Network):
    """WRN-34-10 without dropout: Zagoruyko and Komodakis, "Wide Residual Networks", 2016.

    Layers and initialisation as in TRADES (yaodongyu/TRADES, `models/wideresnet.py`), without that file's unused
    block: normal weights of variance 2 / fan-out in the convolutions, zero bias in the linear layer.
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
        widths = (16, 16 * WIDEN, 32 * WIDEN, 64 * WIDEN)
        blocks = []
        for channels, out_channels, stride in zip(widths[:-1], widths[1:], (1, 2, 2), strict=True):
            blocks.append(Block(channels, out_channels, stride, activation))
            blocks += [Block(out_channels, out_channels, 1, activation) for _ in range((DEPTH - 4) // 6 - 1)]
        body = nn.Sequential(*blocks, nn.BatchNorm2d(widths[-1]), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(
            nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False),
            body,
            nn.Linear(widths[-1], classes),
            mean=mean,
            std=std,
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.classifier.bias)


class Block(nn.Module):
    """Two convolutions after batch norm and activation; where the width changes, the first pair feeds the shortcut."""

    def __init__(self, channels: int, out_channels: int, stride: int, activation: type[nn.Module]):
        super().__init__()
        self.preactivation = nn.Sequential(nn.BatchNorm2d(channels), activation())
        self.residual = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            activation(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        self.projection: nn.Module | None = None
        if channels != out_channels:
            self.projection = nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        preactivated = self.preactivation(x)
        shortcut = x if self.projection is None else self.projection(preactivated)
        return shortcut + self.residual(preactivated)
