"""SSAT: single-step adversarial training with checkpoints along the step."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class SSAT(TwoStage):
    """Kim et al., 2021: each image gets the shortest part of its perturbation that is misclassified already.

    The option `parts` is the paper's c: the perturbation is looked at after each of c equal parts. Images that are
    misclassified where the search starts are trained on clean.
    """

    ranges = {"parts": (1, 1000)}
    published_batch_norm = "eval"

    parts: int

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        images, labels = batch.images, batch.labels
        delta = self.threat.random_start(images)
        share = images.new_ones(len(batch))
        for step in range(effort.steps):
            logits = learner.craft(images + delta)
            if step == 0:
                share = (logits.argmax(1) == labels).to(images.dtype)
            gradient = learner.input_gradient(self.cross_entropy(logits, labels), delta)
            delta = self.threat.ascend(images, delta, gradient, effort.step_size)
        for part in range(1, self.parts):
            with torch.no_grad():
                wrong = learner.craft(images + part / self.parts * delta).argmax(1) != labels
            share = torch.where(wrong & (share == 1), part / self.parts, share)
        return share[:, None, None, None] * delta.detach()
