"""N-FGSM adversarial training."""

from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class NFGSM(TwoStage):
    """De Jorge et al., 2022 (noise-FGSM): one signed step from noise wider than the ball, and no projection."""

    ranges = {"noise": (0, 1000)}  # as wide as the box for any eps of a pixel value
    stays_in_ball = False  # |delta| reaches (noise + 1) eps

    noise: float

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        images = batch.images
        delta = self.threat.box(images, self.threat.noise(images, self.noise * self.threat.eps))
        for _ in range(effort.steps):
            gradient = self.gradient(learner, batch, delta)
            delta = self.threat.box(images, delta + effort.step_size * gradient.sign())
        return delta
