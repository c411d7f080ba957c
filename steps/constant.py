"""The same steps in every epoch."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from experiment.effort import Effort
from experiment.fields import StepSize
from steps.rule import StepsRule


@dataclass
class Constant(StepsRule):
    """The same effort in every epoch."""

    steps: Annotated[int, Field(ge=0, description="Adversarial iterations in every epoch.")]
    step_size: StepSize

    def effort_for(self, epoch: int) -> Effort:
        return Effort(self.steps, self.step_size)
