"""PGD: K gradient steps from a random start, on the cross entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from evaluation.attacks.attack import Attack
from experiment.fields import Count, Seed, StepSize

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiment.pgd import Attacked, Loss
    from experiment.threats.threat import Threat

ANY_FACE = 2  # radii that lead from any random start to any face of the ball


@dataclass(frozen=True)
class PGD(Attack):
    """K gradient steps from a random start; an image that any iterate breaks is broken."""

    display = "PGD"
    paper = "Madry et al., 2018"
    strength = 2
    name_carries = "steps"

    steps: Annotated[Count, Field(le=99_999, description="Gradient steps of each start; the K of the name.")]
    step_size: Annotated[StepSize, Field(validate_default=True)] = "0.25 eps"
    restarts: Annotated[Count, Field(le=10_000, description="Random starts of each image.")] = 1
    seed: Annotated[Seed, Field(description="Of the attack's own randomness.")] = 0

    @property
    def loss(self) -> Loss:
        """What is ascended."""
        from experiment import pgd

        return pgd.cross_entropy

    def search(
        self, network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seed: int, batch_size: int
    ) -> tuple[Attacked, list[str]]:
        from experiment import pgd

        options = {**self.iterations, "loss": self.loss, "batch_size": batch_size}
        return pgd.attack(network, images, labels, threat, **options), []

    @property
    def reach(self) -> float:
        return self.steps * self.step_size / self.eps + 1e-9  # of what the quotient was rounded by

    def outdoes(self, other: Attack) -> bool:
        """Another search of its own kind with no more of anything, or a weaker attack if it reaches every face."""
        if type(other) is not type(self):
            return super().outdoes(other) and (other.strength == 0 or self.reach >= ANY_FACE)
        more = (self.steps, self.restarts) != (other.steps, other.restarts) or self.eps > other.eps
        same_or_more = self.steps >= other.steps and self.restarts >= other.restarts and self.eps >= other.eps
        return more and same_or_more and self.reach >= other.reach
