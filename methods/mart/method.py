"""MART."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.paired import Paired
from methods.starts import gaussian


class MART(Paired):
    """Wang et al., 2020 (misclassification aware adversarial training): TRADES' divergence counts where f(x) is wrong.

    The attacked images are what is fitted, by a cross entropy with a margin to the likeliest wrong class; the images
    only say how much each divergence counts, and from what.
    """

    ranges = {"beta": (0, 1000)}
    stays_in_box = False  # the start is not cut to it

    beta: float

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        start = gaussian(self.threat, batch.images)
        if effort.steps == 0:
            return self.threat.box(batch.images, start)
        return self.ascent(learner, batch, start, effort)

    def pair_loss(self, batch: Batch, clean: Tensor, attacked: Tensor) -> Tensor:
        labels = batch.labels
        is_label = labels[:, None] == torch.arange(clean.shape[1], device=labels.device)
        log_q = clean.log_softmax(1)
        q, p = log_q.exp(), attacked.softmax(1)
        wrong = p.masked_fill(is_label, 0).amax(1)
        margin = -(1.0001 - wrong + 1e-12).log().mean()
        divergence = (q * (log_q - (p + 1e-12).log())).sum(1)
        doubt = 1.0000001 - (q * is_label).sum(1)
        return self.cross_entropy(attacked, labels) + margin + self.beta * (divergence * doubt).mean()
