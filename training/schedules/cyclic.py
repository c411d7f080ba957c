"""The rate climbs from 0 and falls back to 0 in straight lines (Smith, 2017, as Fast uses it)."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from experiment.fields import InnerFraction, Quantity
from training.schedules.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Cyclic(Schedule):
    """The rate goes 0 -> lr -> 0 linearly, highest at `peak`."""

    peak: Annotated[InnerFraction, Field(description="Fraction of the run at which the rate is highest.")] = 0.5
    peak_momentum: Annotated[
        Quantity | None,
        Field(
            description="Momentum where the rate is highest; it goes there from the optimizer's and back in straight "
            "lines. null keeps it. PyTorch's CyclicLR, which the authors of Fast use, has 0.8 unless told otherwise."
        ),
    ] = None

    def rate(self, lr: float, minibatches: int, position: float) -> float:
        return lr * self._climbed(minibatches, position)

    @property
    def cycles_momentum(self) -> bool:
        return self.peak_momentum is not None

    def momentum(self, momentum: float, minibatches: int, position: float) -> float:
        lowest = momentum if self.peak_momentum is None else self.peak_momentum
        return momentum - (momentum - lowest) * self._climbed(minibatches, position)

    def _climbed(self, minibatches: int, position: float) -> float:
        """How far the rate is from 0, at both ends of the run, to 1, at its peak."""
        peak = self.peak * minibatches
        return position / peak if position <= peak else (minibatches - position) / (minibatches - peak)
