"""ELLE."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.local_linearity import LocalLinearity


class ELLE(LocalLinearity):
    """Abad Rocamora et al., 2024: FGSM, and a loss that is linear along random chords of the ball.

    With a, b random points of the ball and c = (1 - t) a + t b, the penalty is the squared difference of the loss at c
    from the interpolated one: local linearity from three losses, without a second derivative.
    """

    ranges = {"weight": (0, 1000000)}

    double_step: bool

    def prepare(self, learner: Learner, batch: Batch, effort: Effort) -> tuple[Tensor, tuple[Tensor, ...]]:
        delta = self.perturbation(learner, batch, effort)
        images = batch.images
        ends = self.threat.noise(images), self.threat.noise(images)
        shape = (len(images), 1, 1, 1)
        t = torch.rand(shape, generator=self.threat.generator, dtype=images.dtype, device=images.device)
        return delta, (*ends, t)

    def penalty(self, learner: Learner, batch: Batch, delta: Tensor, known: tuple[Tensor, ...]) -> Tensor:
        a, b, t = known
        points = [batch.images + point for point in (a, b, (1 - t) * a + t * b)]
        logits = learner(torch.cat(points))
        at_a, at_b, at_c = self.cross_entropy(logits, batch.labels.repeat(3), reduction="none").chunk(3)
        t = t.flatten()
        return (at_c - (1 - t) * at_a - t * at_b).square().mean()
