"""The L-inf norm: no pixel changes by more than eps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from experiment.fields import Length
from experiment.threats.threat import Threat

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Linf(Threat):
    """All images within eps of the original in every pixel (Madry et al., 2018)."""

    norm = "linf"

    eps: Annotated[Length, Field(description="Radius of the ball in pixel units, such as 8/255.")]

    def noise(self, images: Tensor, radius: float | None = None) -> Tensor:
        import torch

        radius = self.eps if radius is None else radius
        noise = torch.empty_like(images).uniform_(-radius, radius, generator=self.generator)
        return noise.requires_grad_()

    def project(self, delta: Tensor) -> Tensor:
        return delta.detach().clamp(-self.eps, self.eps).requires_grad_()

    def direction(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def distance(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().amax(1)
