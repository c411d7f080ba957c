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
    explained = (
        "what papers call CW, PGD on the margin loss (the largest other logit minus the true one) in the same ball"
    )

    @property
    def loss(self) -> Loss:
        from experiment import pgd

        return pgd.margin
