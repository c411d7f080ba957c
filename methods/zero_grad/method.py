"""ZeroGrad adversarial training."""

from math import ceil

from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class ZeroGrad(TwoStage):
    """Golgooni et al., 2021: FGSM-RS that leaves an image's pixels of small gradient where they are.

    quantile: of the gradient's absolute values in an image; what lies strictly below it counts as zero.
    """

    ranges = {"quantile": (0, 1)}

    quantile: float

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        delta = self.threat.random_start(batch.images)
        for _ in range(effort.steps):
            gradient = self.without_small(self.gradient(learner, batch, delta))
            delta = self.threat.ascend(batch.images, delta, gradient, effort.step_size)
        return delta

    def without_small(self, gradient: Tensor) -> Tensor:
        size = gradient.abs()
        ascending = size.flatten(1).sort(1).values
        # The quantile interpolates between two neighbours in size; strictly below it is what is below the upper one.
        threshold = ascending[:, ceil(self.quantile * (ascending.shape[1] - 1))]
        return gradient.where(size >= threshold[:, None, None, None], 0)
