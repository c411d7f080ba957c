"""DEAT-d: one more step every d epochs."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from experiment.effort import Effort
from experiment.fields import First, Most, StepSize
from steps.rule import StepsRule


@dataclass
class Every(StepsRule):
    """DEAT-d (Wang et al., 2021): one more step every d epochs, n(e) = min(floor(e/d) + first, most)."""

    first: First
    most: Most
    d: Annotated[int, Field(ge=1, description="Epochs between two growths.")]
    step_size: StepSize

    def effort_for(self, epoch: int) -> Effort:
        return Effort(min(epoch // self.d + self.first, self.most), self.step_size)
