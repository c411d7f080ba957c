"""The threat model: which perturbations count. Training and evaluation use this same object."""

import torch
from torch import Tensor

TOLERANCE = 1e-6  # how far outside the ball rounding may carry a perturbation that counts


class LinfThreat:
    """All images within `eps` of the original in every pixel, and inside [0, 1] (Madry et al., 2018).

    eps: radius in pixel units; images: (N, C, H, W) in [0, 1]; perturbations have the images' shape.
    Perturbations come back detached and ready to be differentiated (`requires_grad`).
    generator: where random starts are drawn from; it must live on the images' device.
    """

    norm = "linf"

    def __init__(self, eps: float, generator: torch.Generator | None = None):
        self.eps = eps
        self.generator = generator

    def noise(self, images: Tensor, radius: float | None = None) -> Tensor:
        """Uniform in [-radius, radius] (`eps` unless said), not cut to the box."""
        radius = self.eps if radius is None else radius
        noise = torch.empty_like(images).uniform_(-radius, radius, generator=self.generator)
        return noise.requires_grad_()

    def random_start(self, images: Tensor) -> Tensor:
        """Uniform in the ball, cut to the box: where a PGD attack starts."""
        return self.box(images, self.noise(images))

    def project(self, delta: Tensor) -> Tensor:
        """The nearest perturbation inside the ball."""
        return delta.detach().clamp(-self.eps, self.eps).requires_grad_()

    def box(self, images: Tensor, delta: Tensor) -> Tensor:
        """The nearest perturbation that keeps the image inside [0, 1]."""
        return ((images + delta.detach()).clamp(0, 1) - images).requires_grad_()

    def clip(self, images: Tensor) -> Tensor:
        """Images cut to [0, 1], to differentiate through: derivative 1 from 0 to 1, both included, and 0 outside.

        At its bounds `clamp` has 1 up to PyTorch 2.13, as when the methods were published, and 0 from 2.14 on.
        """
        inside = (images >= 0) & (images <= 1)
        return torch.where(inside, images, images.detach().clamp(0, 1))

    def ascend(self, images: Tensor, delta: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """One signed gradient step of `step_size` pixel units, then back into the ball and the box."""
        return self.box(images, self.project(delta.detach() + step_size * gradient.sign()))

    def admits(self, images: Tensor, adversarial: Tensor) -> Tensor:
        """One bool an image: finite, inside [0, 1], and inside the ball up to rounding (1e-6)."""
        flat = adversarial.flatten(1)
        inside = ((flat >= 0) & (flat <= 1)).all(1)  # False for NaN too
        return inside & ((flat - images.flatten(1)).abs().amax(1) <= self.eps + TOLERANCE)


THREATS = {"linf": LinfThreat}
