"""M+ as it made the paper's Table 1."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from experiment.effort import Effort
from steps.mplus import GradientMagnitude

HOST = "Whether growth is forced until step_size * n >= eps."


@dataclass
class MPlus2021(GradientMagnitude):
    """M+ as it made the paper's Table 1: fixed step size, M from the last backward that moved the perturbation.

    A `host` (a method with a separate weight update, such as PGD) must grow until step_size * n >= eps, past `most`
    if need be.
    """

    host: Annotated[bool, Field(description=HOST)] = False

    magnitude_of = "attack"

    def effort_for(self, epoch: int) -> Effort:
        return Effort(self.n, self.step_size)

    def forced(self) -> bool:
        return self.host and self.step_size * self.n < self.eps * (1 - 1e-9)  # 4 steps of eps/4 are enough
