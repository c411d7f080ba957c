"""DEAT: replays, with a perturbation drawn afresh for every minibatch."""

from methods import Batch, Effort, Learner, Method


class DEAT(Method):
    """Wang et al., 2021 (dynamic efficient adversarial training): Free's replays, their number grows over epochs.

    Each pass updates the weights with the gradient at the old perturbation, then the perturbation moves; what the
    last replay makes of it is not used. With one replay the network is trained on uniform noise.
    """

    norms = ("linf", "l2")
    least_steps = 1

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels = batch.images, batch.labels
        delta = self.threat.random_start(images)
        for _ in range(effort.steps):
            logits = learner(images + delta)
            gradient = learner.descend(self.cross_entropy(logits, labels), logits, delta)
            delta = self.threat.ascend(images, delta, gradient, effort.step_size)

    def updates(self, effort: Effort) -> int:
        return effort.steps
