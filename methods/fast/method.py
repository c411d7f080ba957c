"""Fast adversarial training."""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods import Batch, Effort, Learner, Method


class Fast(Method):
    """Wong et al., 2020: one signed gradient step longer than the radius (1.25 eps), then project.

    The option `start` is theirs: `random` in the ball, `zero`, or `previous`, the last minibatch's perturbation.
    """

    norms = ("linf", "l2")
    choices = {"start": ("random", "zero", "previous")}

    start: str

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels = batch.images, batch.labels
        delta = self.start_of(images)
        for _ in range(effort.steps):
            loss = F.cross_entropy(learner.craft(images + delta), labels)
            gradient = learner.input_gradient(loss, delta)
            delta = self.threat.ascend(images, delta, gradient, effort.step_size)
        if self.start == "previous":
            self.state["delta"][: len(images)] = delta.detach()
        logits = learner(images + delta)
        learner.descend(F.cross_entropy(logits, labels), logits)

    def start_of(self, images: Tensor) -> Tensor:
        if self.start == "previous":
            if "delta" not in self.state:
                self.state["delta"] = torch.zeros_like(images)
            return self.threat.box(images, self.state["delta"][: len(images)])
        return self.threat.random_start(images) if self.start == "random" else torch.zeros_like(images).requires_grad_()
