"""What every steps rule is: it decides the effort of each epoch. Pure Python, no tensors."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from experiment.effort import Effort
from experiment.plugins import Plugin


@dataclass(frozen=True)
class Statistics:
    """What a rule may see of an epoch: its gradient magnitude and the accuracy on the adversarial training images."""

    magnitude: float
    accuracy: float


@dataclass
class StepsRule(Plugin, ABC):
    """Decides the effort of each epoch. A subclass is a dataclass; its fields are its parameters, as in a suite.

    One of them, `first` or `steps`, is the number of steps in epoch 0: before work starts it is held against what the
    method needs. `eps` (in pixel units) and `epochs` (of the whole run), where they are fields, come from elsewhere in
    the suite.
    """

    given = frozenset({"eps", "epochs"})
    magnitude_of: ClassVar[str | None] = None  # "update" or "attack": the backward whose magnitude the rule asks for

    @classmethod
    def check(cls, parameters: Any) -> None:
        """Raise ValueError where the rule would begin above its own most."""
        first, most = getattr(parameters, "first", 0), getattr(parameters, "most", None)
        if most is not None and first > most:
            raise ValueError(f"has first {first}, above most, {most}")

    @abstractmethod
    def effort_for(self, epoch: int) -> Effort:
        """The effort of an epoch (0-based), asked for before it."""

    def end_epoch(self, epoch: int, statistics: Statistics) -> None:  # noqa: B027 (a rule need not look)
        """Take note of an epoch that is over."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for key, value in state.items():
            setattr(self, key, value)
