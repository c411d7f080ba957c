"""The shape of most methods: craft one perturbation, then update the weights once."""

from collections.abc import Callable

from torch import Tensor

from methods import Batch, Effort, Learner, Method


class TwoStage(Method):
    """A method that crafts a perturbation of each image and then makes one update with it.

    A subclass writes `perturbation` and, where it minimises anything but the cross entropy of the attacked images,
    `loss`, which may be asked for more than once (adversarial weight perturbation moves the weights in between), and so
    draws no random numbers.
    """

    perturbs_weights = True

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        delta = self.perturbation(learner, batch, effort)
        learner.minimise(lambda: self.loss(learner, batch, delta))

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        """What is added to the images before the update, (B, C, H, W)."""
        raise NotImplementedError

    def loss(self, learner: Learner, batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor]:
        """What the update minimises, a scalar, and the logits of the attacked images, whose pass is the last."""
        logits = learner(batch.images + delta)
        return self.cross_entropy(logits, batch.labels), logits

    def ascent(
        self,
        learner: Learner,
        batch: Batch,
        delta: Tensor,
        effort: Effort,
        objective: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """`delta` after the effort's steps up the gradient, each followed by the projection.

        objective: what the logits of the attacked images are to maximise; the cross entropy unless given.
        """
        for _ in range(effort.steps):
            gradient = self.gradient(learner, batch, delta, objective)
            delta = self.threat.ascend(batch.images, delta, gradient, effort.step_size)
        return delta

    def gradient(
        self, learner: Learner, batch: Batch, delta: Tensor, objective: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Of the objective for `delta`, in a pass that crafts."""
        logits = learner.craft(batch.images + delta)
        loss = self.cross_entropy(logits, batch.labels) if objective is None else objective(logits)
        return learner.input_gradient(loss, delta)
