"""The rate drops at milestones."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from experiment.fields import InnerFraction, Positive
from training.schedules.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class MultiStep(Schedule):
    """The rate is multiplied by `factor` at each of the milestones."""

    milestones: Annotated[
        tuple[InnerFraction, ...],
        Field(
            strict=False,
            description="Fractions of the run, rounded to whole minibatches; one that could never fire is an error.",
        ),
    ] = (0.5, 0.8)
    factor: Annotated[Positive, Field(description="The rate is multiplied by this at a milestone.")] = 0.1

    @classmethod
    def check_span(cls, parameters: Any, minibatches: int) -> None:
        """Raise ValueError where a milestone would never fire."""
        if not all(0 < round(milestone * minibatches) < minibatches for milestone in parameters.milestones):
            raise ValueError(
                f"has milestones {list(parameters.milestones)}, of which one never fires in the {minibatches} "
                "minibatches of a run; train longer or move it"
            )

    def rate(self, lr: float, minibatches: int, position: float) -> float:
        passed = sum(position >= round(milestone * minibatches) for milestone in self.milestones)
        return lr * self.factor**passed
