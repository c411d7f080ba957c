"""What methods on top of a single-step method share: where its search starts, and how it steps."""

from typing import Any

import torch
from torch import Tensor

from experiment.threats.threat import Threat
from methods import Method


class Hosted(Method):
    """The option `host` says whose perturbation it is: that of `fgsm`, `fast` or `n_fgsm`.

    They start at the image, at noise of eps and at noise of 2 eps (n_fgsm's default); n_fgsm alone does not project.
    """

    host: str

    def __init__(self, threat: Threat, **options: Any):
        super().__init__(threat, **options)
        self.stays_in_ball = self.host != "n_fgsm"  # whose |delta| reaches 3 eps

    def start(self, images: Tensor) -> Tensor:
        """Ready to be differentiated."""
        if self.host == "fgsm":
            return torch.zeros_like(images).requires_grad_()
        radius = 2 * self.threat.eps if self.host == "n_fgsm" else self.threat.eps
        return self.threat.box(images, self.threat.noise(images, radius))

    def step(self, images: Tensor, delta: Tensor, gradient: Tensor, size: float) -> Tensor:
        """`delta` after a signed step up the gradient."""
        if self.host == "n_fgsm":
            return self.threat.box(images, delta + size * gradient.sign())
        return self.threat.ascend(images, delta, gradient, size)
