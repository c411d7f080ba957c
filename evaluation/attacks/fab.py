"""FAB-T: the nearest adversarial image in direction of each class, alone, from AutoAttack's package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from evaluation.attacks.attack import Attack
from experiment.fields import Count, Seed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiment.pgd import Attacked
    from experiment.threats.threat import Threat


@dataclass(frozen=True)
class FAB(Attack):
    """FAB-T alone: for each of the nine likeliest other classes, the smallest perturbation that leads there."""

    display = "FAB-T"
    paper = "Croce & Hein, 2020b"
    strength = 2

    steps: Annotated[Count, Field(le=99_999, description="Steps towards each class.")] = 100
    seed: Annotated[Seed, Field(description="Of the attack's own randomness.")] = 0

    def search(
        self, network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seed: int, batch_size: int
    ) -> tuple[Attacked, list[str]]:
        from evaluation import package

        only = {"alone": "fab-t", "options": {"n_iter": self.steps}}
        return package.attack(network, images, labels, threat, seed=seed, batch_size=batch_size, **only)
