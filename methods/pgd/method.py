"""PGD adversarial training."""

import torch.nn.functional as F

from methods import Batch, Effort, Learner, Method


class PGD(Method):
    """Madry et al., 2018: train on the last iterate of a k-step PGD attack from a random start."""

    norms = ("linf", "l2")

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels = batch.images, batch.labels
        delta = self.threat.random_start(images)
        for _ in range(effort.steps):
            loss = F.cross_entropy(learner.craft(images + delta), labels)
            gradient = learner.input_gradient(loss, delta)
            delta = self.threat.ascend(images, delta, gradient, effort.step_size)
        logits = learner(images + delta)
        learner.descend(F.cross_entropy(logits, labels), logits)
