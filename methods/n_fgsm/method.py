"""N-FGSM adversarial training."""

import torch.nn.functional as F

from methods import Batch, Effort, Learner, Method


class NFGSM(Method):
    """De Jorge et al., 2022 (noise-FGSM): one signed step from noise wider than the ball, and no projection."""

    ranges = {"noise": (0, 1000)}  # as wide as the box for any eps of a pixel value
    stays_in_ball = False  # |delta| reaches (noise + 1) eps

    noise: float

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels = batch.images, batch.labels
        delta = self.threat.box(images, self.threat.noise(images, self.noise * self.threat.eps))
        for _ in range(effort.steps):
            loss = F.cross_entropy(learner.craft(images + delta), labels)
            gradient = learner.input_gradient(loss, delta)
            delta = self.threat.box(images, delta + effort.step_size * gradient.sign())
        logits = learner(images + delta)
        learner.descend(F.cross_entropy(logits, labels), logits)
