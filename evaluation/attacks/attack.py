"""The contract between an attack and the evaluation. No torch before something is searched for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from experiment.plugins import Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiment.pgd import Attacked
    from experiment.threats.threat import Threat


@dataclass(frozen=True)
class Attack(Plugin):
    """How adversarial images are searched for; whether they count is not the attack's to say (evaluation/verify.py).

    A subclass's fields are what a suite may say of it; one called `seed` says that the attack draws.

    eps: radius of the ball, in pixel units.
    display: the attack's name as a text spells it; paper: author and year.
    strength: 0 for no search, 1 for one that leaves much to be found, 2 for one along gradients, many steps of it, 3
        for several searches together. An attack leaves no more images robust than one of less strength, but for chance.
    name_carries: the field whose value a suite writes behind the name, as 20 in pgd-20; None where there is none.
    """

    display: ClassVar[str]
    paper: ClassVar[str]
    strength: ClassVar[int] = 1
    name_carries: ClassVar[str | None] = None
    given = frozenset({"eps"})

    eps: float

    def search(
        self, network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seed: int, batch_size: int
    ) -> tuple[Attacked, list[str]]:
        """What is found on this network, still to be verified, and what made it doubtful, a phrase each.

        network: gives logits, frozen, in evaluation mode, on the images' device; images: (N, C, H, W) in [0, 1];
        labels: (N,); threat: draws from `seed`; batch_size: images to show to the network at a time.
        """
        raise NotImplementedError

    @property
    def explained(self) -> str:
        """What a caption adds to the name, a clause; "" for nothing."""
        return ""

    @property
    def iterations(self) -> dict[str, float | None]:
        """`steps`, `step_size` (pixel units) and `restarts`; None for what the attack has no one number of."""
        return {key: getattr(self, key, None) for key in ("steps", "step_size", "restarts")}

    @property
    def reach(self) -> float:
        """How far all steps together go, in units of the radius."""
        return math.inf

    def outdoes(self, other: Attack) -> bool:
        """Whether this attack must leave no more of the same images robust than the other, but for chance."""
        return self.eps >= other.eps and self.strength > other.strength
