"""Amata: steps grow linearly with the epoch, and become shorter."""

from dataclasses import dataclass

from experiment.effort import Effort
from steps.rule import StepsRule


@dataclass
class Amata(StepsRule):
    """Amata (Ye et al., 2021): K(e) = first + int((most - first) e / epochs), steps of total/K(e).

    `most` is thus reached by no epoch of the run, as in the published re-implementation.
    """

    first: int
    most: int
    total: float
    epochs: int

    def effort_for(self, epoch):
        steps = self.first + (self.most - self.first) * epoch // self.epochs
        return Effort(steps, self.total / steps)
