"""GradAlign."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.local_linearity import LocalLinearity


class GradAlign(LocalLinearity):
    """Andriushchenko and Flammarion, 2020: FGSM, and input gradients that point the same way all over the ball.

    The penalty is 1 - cos of the gradients at the image and at a random point of the ball; of the two only the second
    is differentiated. The gradient at the image is the attack's.
    """

    ranges = {"weight": (0, 1000)}
    cuts_attack = True
    reuses_crafting_graph = True  # its gradient: in the penalty it is held against one of batch norm that trains

    def prepare(self, learner: Learner, batch: Batch, effort: Effort) -> tuple[Tensor, tuple[Tensor, ...]]:
        gradient = self.gradient_at_images(learner, batch)
        noise = self.threat.noise(batch.images)
        return self.perturbation(learner, batch, effort, gradient), (gradient, noise)

    def penalty(self, learner: Learner, batch: Batch, delta: Tensor, known: tuple[Tensor, ...]) -> Tensor:
        gradient, noise = known
        return misalignment(gradient, self.gradient_at(learner, batch, noise))


def misalignment(one: Tensor, other: Tensor) -> Tensor:
    """1 - cos of the images' gradients, the mean over those that have both; 0 where none has."""
    one, other = one.flatten(1), other.flatten(1)
    squares = one.square().sum(1), other.square().sum(1)
    kept = (squares[0] > 0) & (squares[1] > 0)
    lengths = [torch.where(kept, square, 1).sqrt()[:, None] for square in squares]  # the root of 0 has no derivative
    cosine = (one / lengths[0] * (other / lengths[1])).sum(1)
    return torch.where(kept, 1 - cosine, 0).sum() / kept.sum().clamp_min(1)
