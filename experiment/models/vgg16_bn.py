from collections.abc import Sequence

from torch import nn

from experiment.models.network import Network


class VGG16BN(Network):
    """Configuration D of Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015, with batch norm, for CIFAR.

    Thirteen 3x3 convolutions (with bias), of 64 to 512 channels at the default width, five max-poolings and, instead
    of the three linear layers for ImageNet, one. Initialisation as in torchvision's `vgg16_bn`. Images larger than
    32x32 are averaged to one pixel after the last pooling; of smaller ones five poolings would leave nothing.
    """

    smallest = 32  # pixels a side
    ranges = {"width": (1, 1024)}
    about = {"width": "Channels of the first convolutions; the last ones have 8 times as many."}

    def __init__(
        self,
        *,
        classes: int,
        shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        activation: type[nn.Module],
        width: int = 64,
    ):
        channels = shape[0]
        # The first convolution alone is the first layer: its batch norm and activation open the body.
        body = nn.Sequential(
            nn.BatchNorm2d(width),
            activation(),
            *convolution(width, width, activation),
            nn.MaxPool2d(2),
            *convolution(width, 2 * width, activation),
            *convolution(2 * width, 2 * width, activation),
            nn.MaxPool2d(2),
            *convolution(2 * width, 4 * width, activation),
            *convolution(4 * width, 4 * width, activation),
            *convolution(4 * width, 4 * width, activation),
            nn.MaxPool2d(2),
            *convolution(4 * width, 8 * width, activation),
            *convolution(8 * width, 8 * width, activation),
            *convolution(8 * width, 8 * width, activation),
            nn.MaxPool2d(2),
            *convolution(8 * width, 8 * width, activation),
            *convolution(8 * width, 8 * width, activation),
            *convolution(8 * width, 8 * width, activation),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1), body, nn.Linear(8 * width, classes), mean=mean, std=std
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)


def convolution(channels: int, out_channels: int, activation: type[nn.Module]) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), activation()
