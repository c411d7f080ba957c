"""LAP: layer-aware weight perturbation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class LAP(TwoStage):
    """Lin et al., 2024: before each update, weights are moved by what an update at the attack's start would change.

    The first layer moves furthest, by `beta` of its norm, the last one not at all; the weights stay where they are
    moved to. `host` is the method whose perturbation it is: `fgsm`, `fast` or `n_fgsm`, the paper's V, R and N.
    """

    choices = {"host": ("fgsm", "fast", "n_fgsm")}
    ranges = {"beta": (0, 1000), "gamma": (0, 1000)}
    stays_in_ball = False  # with the host n_fgsm, the default: |delta| reaches 3 eps
    perturbs_weights = False  # it does by itself

    host: str
    beta: float
    gamma: float

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        images = batch.images
        delta, changes = self.start_of(images), list[Tensor]()
        for step in range(effort.steps):
            loss = self.cross_entropy(learner.craft(images + delta), batch.labels)
            if step == 0:
                gradient, changes = learner.try_update(loss, delta)
            else:
                gradient = learner.input_gradient(loss, delta)
            delta = delta.detach() + effort.step_size * gradient.sign()
            delta = self.threat.box(images, delta if self.host == "n_fgsm" else self.threat.project(delta))
        if changes:
            learner.move(changes, self.shares(changes))
        return delta

    def start_of(self, images: Tensor) -> Tensor:
        if self.host == "fgsm":
            return torch.zeros_like(images).requires_grad_()
        radius = 2 * self.threat.eps if self.host == "n_fgsm" else self.threat.eps
        return self.threat.box(images, self.threat.noise(images, radius))

    def shares(self, changes: Sequence[Tensor]) -> list[float]:
        """By how much of its norm each weight moves; layers are its tensors of more than one dimension, in order."""
        layers = sum(change.dim() > 1 for change in changes)
        depths = iter(math.log(layer) / math.log(layers) for layer in range(1, layers + 1))
        return [self.beta * (1 - next(depths) ** self.gamma) if change.dim() > 1 else 0.0 for change in changes]
