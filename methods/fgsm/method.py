"""FGSM adversarial training."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class FGSM(TwoStage):
    """Goodfellow et al., 2015: one signed gradient step of eps from the image itself, with nothing against collapse."""

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        return self.ascent(learner, batch, torch.zeros_like(batch.images).requires_grad_(), effort)
