"""The network that makes FGSM-SDI's starts."""

import torch
from torch import Tensor, nn

WIDTH = 64


class Generator(nn.Module):
    """Perturbations within eps, of images and the signs of their gradients, all (B, C, H, W)."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.eps = eps
        first = nn.Conv2d(2 * channels, WIDTH, 3, padding=1, bias=False)
        self.head = nn.Sequential(first, nn.BatchNorm2d(WIDTH, eps=1e-3), nn.ReLU())
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            nn.init.xavier_uniform_(convolution.weight, gain=2**0.5)
            layers += [nn.BatchNorm2d(WIDTH, affine=False), nn.PReLU(), convolution]
        self.block = nn.Sequential(*layers)
        self.tail = nn.Sequential(nn.BatchNorm2d(WIDTH, affine=False), nn.Conv2d(WIDTH, channels, 3, padding=1))

    def forward(self, images: Tensor, signs: Tensor) -> Tensor:
        hidden = self.head(torch.cat([images, signs], 1))
        return self.eps * self.tail(hidden + self.block(hidden)).tanh()
