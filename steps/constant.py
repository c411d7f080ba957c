"""The same steps in every epoch."""

from dataclasses import dataclass

from experiment.effort import Effort
from steps.rule import StepsRule


@dataclass
class Constant(StepsRule):
    """The same effort in every epoch."""

    steps: int
    step_size: float

    def effort_for(self, epoch):
        return Effort(self.steps, self.step_size)
