"""ATTA: adversarial training with transferable adversarial examples."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Position, Split
from methods.stores import padded_shape, read_padded, write_padded
from methods.two_stage import TwoStage

NOISE = 0.001  # standard deviation of what the perturbations start from, in pixel units whatever eps


class ATTA(TwoStage):
    """Zheng et al., 2020: an image's attack goes on from the perturbation that the last epoch's attack ended with.

    Perturbations lie in padded coordinates, so that each stays on its pixels through random crops and flips. All start
    anew from small noise every `reset_every` epochs.
    """

    ranges = {"reset_every": (1, 1000)}
    stays_in_box = False  # the noise is not cut to the box before the first step
    published_batch_norm = "eval"

    reset_every: int

    def begin(self, split: Split) -> None:
        self.state["delta"] = torch.zeros(padded_shape(split.images, split.shape), device=split.where)

    def begin_epoch(self, learner: Learner, position: Position) -> None:
        if position.epoch == 0 or (position.epoch + 1) % self.reset_every == 0:
            self.state["delta"].normal_(0, NOISE, generator=self.threat.generator)

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        start = read_padded(self.state["delta"], batch).requires_grad_()
        delta = self.ascent(learner, batch, start, effort)
        write_padded(self.state["delta"], batch, delta)
        return delta
