"""The L2 norm: the squares of all pixels' changes add up to at most eps^2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from experiment.fields import Positive
from experiment.threats.threat import Threat

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class L2(Threat):
    """All images within a Euclidean distance of eps of the original (Madry et al., 2018, section 5 and appendix)."""

    norm = "l2"

    eps: Annotated[Positive, Field(description="Radius of the ball in pixel units, such as 128/255.")]

    def noise(self, images: Tensor, radius: float | None = None) -> Tensor:
        """A normal draw gives a direction, u^(1/d) with u uniform the share of the radius (d values an image)."""
        import torch

        radius = self.eps if radius is None else radius
        direction = self.direction(torch.empty_like(images).normal_(generator=self.generator))
        share = images.new_empty(len(images)).uniform_(generator=self.generator) ** (1 / images.shape[1:].numel())
        return (radius * share.view(-1, 1, 1, 1) * direction).requires_grad_()

    def project(self, delta: Tensor) -> Tensor:
        import torch

        norm = self.distance(delta.detach()).clamp_min(torch.finfo(delta.dtype).tiny)
        share = (self.eps / norm).clamp_max(1).to(delta.dtype)
        return (share.view(-1, 1, 1, 1) * delta.detach()).requires_grad_()

    def direction(self, gradient: Tensor) -> Tensor:
        """The gradient at length 1; where it is zero, zero."""
        import torch

        # In units of its largest value, whose square would be 0 for gradients that signs still tell apart.
        largest = gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        scaled = gradient / largest
        return scaled / torch.linalg.vector_norm(scaled, dim=(1, 2, 3), keepdim=True).clamp_min(1)

    def distance(self, delta: Tensor) -> Tensor:
        import torch

        return torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64)
