"""DEAT-p: one more step where the adversarial training accuracy is high."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from experiment.effort import Effort
from experiment.fields import First, Fraction, Most, StepSize
from steps.rule import Statistics, StepsRule


@dataclass
class Accuracy(StepsRule):
    """DEAT-p (Wang et al., 2021): one more step after an epoch with adversarial training accuracy above a threshold."""

    first: First
    most: Most
    threshold: Annotated[Fraction, Field(description="Adversarial training accuracy, a fraction.")]
    step_size: StepSize

    def __post_init__(self) -> None:
        self.n = self.first

    def effort_for(self, epoch: int) -> Effort:
        return Effort(self.n, self.step_size)

    def end_epoch(self, epoch: int, statistics: Statistics) -> None:
        if statistics.accuracy > self.threshold and self.n < self.most:
            self.n += 1

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n}
