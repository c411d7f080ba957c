"""Fast adversarial training."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class Fast(TwoStage):
    """Wong et al., 2020: one signed gradient step longer than the radius (1.25 eps), then project.

    The option `start` is theirs: `random` in the ball, `zero`, or `previous`, the last minibatch's perturbation.
    """

    norms = ("linf", "l2")
    choices = {"start": ("random", "zero", "previous")}

    start: str

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        delta = self.ascent(learner, batch, self.start_of(batch.images), effort)
        if self.start == "previous":
            self.state["delta"][: len(batch)] = delta.detach()
        return delta

    def start_of(self, images: Tensor) -> Tensor:
        if self.start == "previous":
            if "delta" not in self.state:
                self.state["delta"] = torch.zeros_like(images)
            return self.threat.box(images, self.state["delta"][: len(images)])
        return self.threat.random_start(images) if self.start == "random" else torch.zeros_like(images).requires_grad_()
