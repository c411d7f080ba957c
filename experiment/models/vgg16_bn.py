from collections.abc import Sequence

from torch import nn

from experiment.models.network import Network


class VGG16BN(Network):
    """Configuration D of Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015, with batch norm, for CIFAR.

    Thirteen 3x3 convolutions (with bias), five max-poolings and, instead of the three linear layers for ImageNet, one
    of 512 inputs. Initialisation as in torchvision's `vgg16_bn`. Images larger than 32x32 are averaged to one pixel
    after the last pooling; of smaller ones five poolings would leave nothing.
    """

    smallest = 32  # pixels a side

    def __init__(
        self,
        *,
        classes: int,
        shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        activation: type[nn.Module],
    ):
        channels = shape[0]
        # The first convolution alone is the first layer: its batch norm and activation open the body.
        body = nn.Sequential(
            nn.BatchNorm2d(64),
            activation(),
            *convolution(64, 64, activation),
            nn.MaxPool2d(2),
            *convolution(64, 128, activation),
            *convolution(128, 128, activation),
            nn.MaxPool2d(2),
            *convolution(128, 256, activation),
            *convolution(256, 256, activation),
            *convolution(256, 256, activation),
            nn.MaxPool2d(2),
            *convolution(256, 512, activation),
            *convolution(512, 512, activation),
            *convolution(512, 512, activation),
            nn.MaxPool2d(2),
            *convolution(512, 512, activation),
            *convolution(512, 512, activation),
            *convolution(512, 512, activation),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        super().__init__(nn.Conv2d(channels, 64, 3, padding=1), body, nn.Linear(512, classes), mean=mean, std=std)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)


def convolution(channels: int, out_channels: int, activation: type[nn.Module]) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), activation()
