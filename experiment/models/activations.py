"""What a network may have in the place of every ReLU (smooth adversarial training, Xie et al., 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmoothReLU(nn.Module):
    """x - log(1 + b x) / b for x > 0, and 0 elsewhere, with b = s^2 and one learned s a layer (Xie et al., 2020).

    Its derivative, b x / (1 + b x) for x > 0, is 0 at 0 and continuous. s starts at 20 and decays with the weights, as
    in the authors' code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor([20.0]))

    def forward(self, x: Tensor) -> Tensor:
        b = self.s.square()
        return F.relu(x - torch.log1p(b * x.abs()) / b)


# By the name in a suite. softplus has beta 1, gelu is the exact x Phi(x).
CLASSES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "mish": nn.Mish,
    "smoothrelu": SmoothReLU,
}
