"""Amata: steps grow linearly with the epoch, and become shorter."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from experiment.effort import Effort
from experiment.fields import Total
from experiment.quantity import as_length
from steps.rule import StepsRule


@dataclass
class Amata(StepsRule):
    """Amata (Ye et al., 2021): K(e) = first + int((most - first) e / epochs), steps of total/K(e).

    `most` is thus reached by no epoch of the run, as in the published re-implementation.
    """

    first: Annotated[int, Field(ge=1, description="Adversarial iterations in the first epoch.")]
    most: Annotated[int, Field(ge=1, description="Adversarial iterations that the run grows towards.")]
    total: Annotated[
        Total, Field(description="Length of all steps together, in pixel units or of the radius (2.5 eps).")
    ]
    epochs: int

    @classmethod
    def check(cls, parameters: Any) -> None:
        """Raise ValueError where the shortest step would not be a length."""
        super().check(parameters)
        try:
            as_length(parameters.total / parameters.most)
        except ValueError as error:
            raise ValueError(f"has a total / most of {parameters.total / parameters.most:g}; {error}") from None

    def effort_for(self, epoch: int) -> Effort:
        steps = self.first + (self.most - self.first) * epoch // self.epochs
        return Effort(steps, self.total / steps)
