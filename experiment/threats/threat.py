"""The contract between a norm and whatever makes perturbations. No torch before something is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from experiment.plugins import Plugin

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-6  # how far outside the ball rounding may carry a perturbation that counts


@dataclass(frozen=True)
class Threat(Plugin):
    """All images within `eps` of the original, in a norm, and inside [0, 1].

    images: (N, C, H, W) in [0, 1]; perturbations have the images' shape. Perturbations come back detached and ready to
    be differentiated (`requires_grad`). A norm is a subclass with `noise`, `project`, `direction` and `distance`; the
    box must not move a perturbation out of the norm's ball.

    norm: its name in a suite; eps: radius in pixel units.
    generator: a torch.Generator on the images' device, from which random starts are drawn; None is PyTorch's own.
    """

    norm: ClassVar[str]
    given = frozenset({"generator"})

    eps: float
    generator: Any = None

    def noise(self, images: Tensor, radius: float | None = None) -> Tensor:
        """Uniform in the ball of that radius (`eps` unless said), not cut to the box."""
        raise NotImplementedError

    def project(self, delta: Tensor) -> Tensor:
        """The nearest perturbation inside the ball."""
        raise NotImplementedError

    def direction(self, gradient: Tensor) -> Tensor:
        """Of all perturbations of norm 1 the one along which a loss with this gradient rises fastest."""
        raise NotImplementedError

    def distance(self, delta: Tensor) -> Tensor:
        """The norm of each perturbation, (N,)."""
        raise NotImplementedError

    def random_start(self, images: Tensor) -> Tensor:
        """Uniform in the ball, cut to the box: where a PGD attack starts."""
        return self.box(images, self.noise(images))

    def ascend(self, images: Tensor, delta: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """One gradient step of `step_size` pixel units, then back into the ball and the box."""
        return self.box(images, self.project(delta.detach() + step_size * self.direction(gradient)))

    def box(self, images: Tensor, delta: Tensor) -> Tensor:
        """The nearest perturbation that keeps the image inside [0, 1]."""
        return ((images + delta.detach()).clamp(0, 1) - images).requires_grad_()

    def clip(self, images: Tensor) -> Tensor:
        """Images cut to [0, 1], to differentiate through: derivative 1 from 0 to 1, both included, and 0 outside.

        At its bounds `clamp` has 1 up to PyTorch 2.13, as when the methods were published, and 0 from 2.14 on.
        """
        import torch

        inside = (images >= 0) & (images <= 1)
        return torch.where(inside, images, images.detach().clamp(0, 1))

    def admits(self, images: Tensor, adversarial: Tensor) -> Tensor:
        """One bool an image: finite, inside [0, 1], and inside the ball up to rounding (1e-6)."""
        flat = adversarial.flatten(1)
        inside = ((flat >= 0) & (flat <= 1)).all(1)  # False for NaN too
        return inside & (self.distance(adversarial - images) <= self.eps + TOLERANCE)
