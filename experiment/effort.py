"""Effort: what a steps rule decides for an epoch and a method spends on each minibatch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """steps: number of adversarial iterations; step_size: length of each in pixel units ([0, 1])."""

    steps: int
    step_size: float
