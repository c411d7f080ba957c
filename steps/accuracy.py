"""DEAT-p: one more step where the adversarial training accuracy is high."""

from dataclasses import dataclass

from experiment.effort import Effort
from steps.rule import StepsRule


@dataclass
class Accuracy(StepsRule):
    """DEAT-p (Wang et al., 2021): one more step after an epoch with adversarial training accuracy above a threshold."""

    first: int
    most: int
    threshold: float
    step_size: float

    def __post_init__(self):
        self.n = self.first

    def effort_for(self, epoch):
        return Effort(self.n, self.step_size)

    def end_epoch(self, epoch, statistics):
        if statistics.accuracy > self.threshold and self.n < self.most:
            self.n += 1

    def state_dict(self):
        return {"n": self.n}
