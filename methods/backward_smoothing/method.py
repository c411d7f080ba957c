"""Backward Smoothing."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.losses import kl_divergence
from methods.trades.method import TRADES


class BackwardSmoothing(TRADES):
    """Chen et al., 2022: TRADES in one step, from where the network gives what noise makes of its prediction.

    The noise is added to the image's logits, and a first step goes from the image itself towards that target.
    """

    ranges = {"beta": (0, 1000), "gamma": (0, 1000)}
    stays_in_box = True
    least_steps = 1

    gamma: float

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        with torch.no_grad():
            clean = learner.craft(batch.images)
        target = clean + self.threat.noise(clean, self.gamma).detach()
        delta = torch.zeros_like(batch.images).requires_grad_()
        away = self.gradient(learner, batch, delta, lambda logits: kl_divergence(target, logits))
        delta = self.threat.ascend(batch.images, delta, -away, effort.step_size)
        return self.ascent(learner, batch, delta, effort, lambda logits: kl_divergence(clean, logits))
