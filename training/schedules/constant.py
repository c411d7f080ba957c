"""The same rate from the first minibatch to the last."""

from dataclasses import dataclass

from training.schedules.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same rate in every minibatch."""

    def rate(self, lr: float, minibatches: int, position: float) -> float:
        return lr
