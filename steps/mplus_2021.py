"""M+ as it made the paper's Table 1."""

from dataclasses import dataclass, field

from experiment.effort import Effort
from steps.mplus import GradientMagnitude

HOST = {"help": "force growth until step_size * n >= eps"}


@dataclass
class MPlus2021(GradientMagnitude):
    """M+ as it made the paper's Table 1: fixed step size, M from the last backward that moved the perturbation.

    A `host` (a method with a separate weight update, such as PGD) must grow until step_size * n >= eps, past `most`
    if need be.
    """

    host: bool = field(default=False, metadata=HOST)

    magnitude_of = "attack"

    def effort_for(self, epoch):
        return Effort(self.n, self.step_size)

    def forced(self):
        return self.host and self.step_size * self.n < self.eps * (1 - 1e-9)  # 4 steps of eps/4 are enough
