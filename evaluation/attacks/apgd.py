"""APGD on the cross entropy: PGD that chooses its own step size, alone, from AutoAttack's package."""

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
class APGD(Attack):
    """APGD-CE alone: PGD with momentum that halves its step size where it makes no progress."""

    display = "APGD-CE"
    paper = "Croce & Hein, 2020"
    strength = 2
    steps = 100  # by which the package sets when a step size is judged

    restarts: Annotated[Count, Field(le=10_000, description="Random starts of each image.")] = 1
    seed: Annotated[Seed, Field(description="Of the attack's own randomness.")] = 0

    def search(
        self, network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seed: int, batch_size: int
    ) -> tuple[Attacked, list[str]]:
        from evaluation import package

        only = {"alone": "apgd-ce", "options": {"n_restarts": self.restarts}}
        return package.attack(network, images, labels, threat, seed=seed, batch_size=batch_size, **only)
