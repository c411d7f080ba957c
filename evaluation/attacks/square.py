"""Square: random search without gradients, alone, from AutoAttack's package."""

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
class Square(Attack):
    """Square alone: random squares, kept where they raise the margin loss; needs no gradients."""

    display = "Square"
    paper = "Andriushchenko et al., 2020"

    queries: Annotated[Count, Field(le=1_000_000, description="Forward passes of each image.")] = 5000
    seed: Annotated[Seed, Field(description="Of the attack's own randomness.")] = 0

    def search(
        self, network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seed: int, batch_size: int
    ) -> tuple[Attacked, list[str]]:
        from evaluation import package

        only = {"alone": "square", "options": {"n_queries": self.queries}}
        return package.attack(network, images, labels, threat, seed=seed, batch_size=batch_size, **only)
