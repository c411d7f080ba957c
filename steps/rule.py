"""What every steps rule is: it decides the effort of each epoch. Pure Python, no tensors."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from experiment.effort import Effort


@dataclass(frozen=True)
class Statistics:
    """What a rule may see of an epoch: its gradient magnitude and the accuracy on the adversarial training images."""

    magnitude: float
    accuracy: float


class StepsRule(ABC):
    """Decides the effort of each epoch. A subclass is a dataclass; its fields are its parameters, as in a suite.

    One of them, `first` or `steps`, is the number of steps in epoch 0: before work starts it is held against what the
    method needs. `eps` and `epochs`, where they are fields, come from elsewhere in the suite.
    """

    magnitude_of: str | None = None  # "update" or "attack": the backward whose gradient's magnitude the rule asks for

    @abstractmethod
    def effort_for(self, epoch: int) -> Effort:
        """The effort of an epoch (0-based), asked for before it."""

    def end_epoch(self, epoch: int, statistics: Statistics) -> None:  # noqa: B027 (a rule need not look)
        """Take note of an epoch that is over."""

    def state_dict(self) -> dict:
        """What must survive an interruption."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        for key, value in state.items():
            setattr(self, key, value)
