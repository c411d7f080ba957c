"""AutoAttack's standard version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from evaluation.attacks.attack import Attack
from experiment.fields import Seed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiment.pgd import Attacked
    from experiment.threats.threat import Threat


@dataclass(frozen=True)
class AutoAttack(Attack):
    """AutoAttack's standard version: APGD-CE, APGD-T, FAB-T and Square, each on what the ones before it left."""

    display = "AutoAttack"
    paper = "Croce & Hein, 2020"
    strength = 3

    seed: Annotated[Seed, Field(description="Of the attack's own randomness.")] = 0

    def search(
        self, network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seed: int, batch_size: int
    ) -> tuple[Attacked, list[str]]:
        from evaluation import package

        return package.attack(network, images, labels, threat, seed=seed, batch_size=batch_size)
