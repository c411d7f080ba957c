"""MultiGrad adversarial training."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class MultiGrad(TwoStage):
    """Golgooni et al., 2021: FGSM that moves the pixels on which gradients at several random points agree in sign.

    samples: how many points of the ball a step asks.
    """

    least_steps = 1
    ranges = {"samples": (1, 100)}

    samples: int

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        delta = torch.zeros_like(batch.images)
        for _ in range(effort.steps):
            delta = self.threat.ascend(batch.images, delta, self.agreed(learner, batch, delta), effort.step_size)
        return delta

    def agreed(self, learner: Learner, batch: Batch, delta: Tensor) -> Tensor:
        """The sign of the gradient where it is the same at all points, and 0 elsewhere."""
        votes = torch.zeros_like(batch.images)
        for _ in range(self.samples):
            noise = self.threat.noise(batch.images)
            point = self.threat.box(batch.images, self.threat.project(delta + noise))
            votes += self.gradient(learner, batch, point).sign()
        return votes.where(votes.abs() == self.samples, 0)
