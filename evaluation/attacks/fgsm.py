"""FGSM: one step of eps from the image itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.attacks.attack import Attack

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiment.pgd import Attacked
    from experiment.threats.threat import Threat


@dataclass(frozen=True)
class FGSM(Attack):
    """One step of eps from the image itself."""

    display = "FGSM"
    paper = "Goodfellow et al., 2015"

    def search(
        self, network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seed: int, batch_size: int
    ) -> tuple[Attacked, list[str]]:
        from experiment import pgd

        options = {"steps": 1, "step_size": threat.eps, "random_start": False, "batch_size": batch_size}
        return pgd.attack(network, images, labels, threat, **options), []

    @property
    def iterations(self) -> dict[str, float | None]:
        return {"steps": 1, "step_size": self.eps, "restarts": 1}

    @property
    def reach(self) -> float:
        return 1.0
