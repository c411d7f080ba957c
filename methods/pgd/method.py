"""PGD adversarial training."""

from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class PGD(TwoStage):
    """Madry et al., 2018: train on the last iterate of a k-step PGD attack from a random start."""

    norms = ("linf", "l2")

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        return self.ascent(learner, batch, self.threat.random_start(batch.images), effort)
