"""DEAT-d: one more step every d epochs."""

from dataclasses import dataclass

from experiment.effort import Effort
from steps.rule import StepsRule


@dataclass
class Every(StepsRule):
    """DEAT-d (Wang et al., 2021): one more step every d epochs, n(e) = min(floor(e/d) + first, most)."""

    first: int
    most: int
    d: int
    step_size: float

    def effort_for(self, epoch):
        return Effort(min(epoch // self.d + self.first, self.most), self.step_size)
