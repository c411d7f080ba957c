"""LLR, the local linearity regulariser, as ELLE's authors compare with it."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.local_linearity import LocalLinearity


class LLR(LocalLinearity):
    """Qin et al., 2019, as in Abad Rocamora et al., 2024: FGSM, and a loss that its first-order expansion predicts.

    With a, b random points of the ball, the penalty is (L(b) - L(a) - <b - a, grad L(a)>)^2. The gradient is that of
    the minibatch's mean loss, as in the authors' code; with `per_image`, that of each image's own.
    """

    ranges = {"weight": (0, 1000000)}

    double_step: bool
    adaptive: bool
    per_image: bool

    def prepare(self, learner: Learner, batch: Batch, effort: Effort) -> tuple[Tensor, tuple[Tensor, ...]]:
        delta = self.perturbation(learner, batch, effort)
        return delta, (self.threat.noise(batch.images), self.threat.noise(batch.images))

    def penalty(self, learner: Learner, batch: Batch, delta: Tensor, known: tuple[Tensor, ...]) -> Tensor:
        a, b = known
        gradient = self.gradient_at(learner, batch, a)
        if self.per_image:
            gradient = gradient * len(batch)
        logits = learner(torch.cat([batch.images + a, batch.images + b]))
        at_a, at_b = self.cross_entropy(logits, batch.labels.repeat(2), reduction="none").chunk(2)
        predicted = ((b - a) * gradient).sum((1, 2, 3))
        return (at_b - at_a - predicted).square().mean()
