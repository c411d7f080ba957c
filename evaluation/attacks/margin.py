"""PGD on the margin loss, which papers call CW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.attacks.pgd import PGD

if TYPE_CHECKING:
    from experiment.pgd import Loss


@dataclass(frozen=True)
class Margin(PGD):
    """PGD on the margin loss, which papers call CW."""

    display = "margin PGD"
    paper = "Carlini & Wagner, 2017"

    @property
    def explained(self) -> str:
        loss = "the margin loss (the largest other logit minus the true one)"
        return f"what papers call CW-{self.steps}, PGD on {loss} in the same ball"

    @property
    def loss(self) -> Loss:
        from experiment import pgd

        return pgd.margin
