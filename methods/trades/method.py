"""TRADES."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.losses import kl_divergence
from methods.paired import Paired
from methods.starts import gaussian


class TRADES(Paired):
    """Zhang et al., 2019: fit the images, and hold the prediction still where an attack moves it most.

    The attack needs no label: its steps raise the divergence of the attacked image's prediction from the image's own.
    """

    ranges = {"beta": (0, 1000)}
    stays_in_box = False  # the start is not cut to it

    beta: float

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        start = gaussian(self.threat, batch.images)
        if effort.steps == 0:
            return self.threat.box(batch.images, start)
        with torch.no_grad():
            clean = learner.craft(batch.images)
        return self.ascent(learner, batch, start, effort, lambda attacked: kl_divergence(clean, attacked))

    def pair_loss(self, batch: Batch, clean: Tensor, attacked: Tensor) -> Tensor:
        return self.cross_entropy(clean, batch.labels) + self.beta * kl_divergence(clean, attacked)
