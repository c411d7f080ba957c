"""Free adversarial training."""

import torch

from methods import Batch, Effort, Learner, Method


class Free(Method):
    """Shafahi et al., 2019: replay each minibatch m times; every backward moves the weights and the perturbation.

    The perturbation is carried: slot i of a minibatch starts from what slot i of the one before ended with, and a
    short minibatch touches only its own slots. With the option `carry: false` each minibatch starts from zero, as
    in several re-implementations.
    """

    least_steps = 1

    carry: bool

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels = batch.images, batch.labels
        if "delta" not in self.state:
            self.state["delta"] = torch.zeros_like(images)
        carried = self.state["delta"]
        delta = self.threat.project(carried[: len(images)])
        for _ in range(effort.steps):
            logits = learner(self.threat.clip(images + delta))
            gradient = learner.descend(self.cross_entropy(logits, labels), logits, delta)
            delta = self.threat.project(delta.detach() + effort.step_size * gradient.sign())
        if self.carry:
            carried[: len(images)] = delta.detach()

    def updates(self, effort: Effort) -> int:
        return effort.steps
