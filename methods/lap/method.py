"""LAP: layer-aware weight perturbation."""

import math
from collections.abc import Sequence

from torch import Tensor

from methods import Batch, Effort, Learner
from methods.hosts import Hosted


class LAP(Hosted):
    """Lin et al., 2024: before each update, weights are moved by what an update at the attack's start would change.

    The first layer moves furthest, by `beta` of its norm, the last one not at all; the weights stay where they are
    moved to. `host` is the method whose perturbation it is: `fgsm`, `fast` or `n_fgsm`, the paper's V, R and N.
    """

    choices = {"host": ("fgsm", "fast", "n_fgsm")}
    ranges = {"beta": (0, 1000), "gamma": (0, 1000)}

    beta: float
    gamma: float

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels = batch.images, batch.labels
        delta, changes = self.start(images), list[Tensor]()
        for step in range(effort.steps):
            loss = self.cross_entropy(learner.craft(images + delta), labels)
            if step == 0:
                gradient, changes = learner.try_update(loss, delta)
            else:
                gradient = learner.input_gradient(loss, delta)
            delta = self.step(images, delta, gradient, effort.step_size)
        if changes:
            learner.move(changes, self.shares(changes))
        logits = learner(images + delta)
        learner.descend(self.cross_entropy(logits, labels), logits)

    def shares(self, changes: Sequence[Tensor]) -> list[float]:
        """By how much of its norm each weight moves; layers are its tensors of more than one dimension, in order."""
        layers = sum(change.dim() > 1 for change in changes)
        depths = iter(math.log(layer) / math.log(layers) for layer in range(1, layers + 1))
        return [self.beta * (1 - next(depths) ** self.gamma) if change.dim() > 1 else 0.0 for change in changes]
