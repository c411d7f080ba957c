"""No attack: the images as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.attacks.attack import Attack

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiment.pgd import Attacked
    from experiment.threats.threat import Threat


@dataclass(frozen=True)
class Clean(Attack):
    """No attack; the images as they are."""

    display = "clean"
    paper = ""
    strength = 0

    def search(
        self, network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seed: int, batch_size: int
    ) -> tuple[Attacked, list[str]]:
        from experiment import pgd

        return pgd.Attacked(pgd.predictions(network, images, batch_size) == labels, images), []
