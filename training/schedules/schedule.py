"""What every schedule is: a function of how far the run is, without state, so that nothing is lost on resuming."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from experiment.plugins import Plugin


@dataclass(frozen=True, kw_only=True)
class Schedule(Plugin, ABC):
    """How the learning rate changes over a run of so many minibatches.

    A position is a number of minibatches; replays advance it by fractions where `unit` is update.
    """

    unit: Annotated[
        Literal["minibatch", "update"],
        Field(description="What it advances with; with `update` replays of a minibatch share its span."),
    ] = "minibatch"

    @classmethod
    def check_span(cls, parameters: Any, minibatches: int) -> None:
        """Raise ValueError, with what follows the schedule's key, where a run of so many minibatches is too short."""

    @abstractmethod
    def rate(self, lr: float, minibatches: int, position: float) -> float:
        """The learning rate at `position` out of `minibatches`. lr: the suite's."""

    def positions(self, position: int, updates: int) -> list[float]:
        """Where each of the updates of the minibatch at `position` is."""
        share = 1 / updates if self.unit == "update" else 0
        return [position + done * share for done in range(updates)]

    @property
    def cycles_momentum(self) -> bool:
        """Whether momentum changes over the run, and `momentum` says how."""
        return False

    def momentum(self, momentum: float, minibatches: int, position: float) -> float:
        """The momentum there. momentum: the optimizer's."""
        return momentum
