"""The family that keeps the loss linear around the images, so that one gradient step is a good attack."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Split
from methods.two_stage import TwoStage


class LocalLinearity(TwoStage):
    """FGSM from the images, and `weight` times a penalty on a loss that is not linear in the ball around them.

    A subclass writes `penalty`, and `prepare` where that needs more than the perturbation: the update's loss may be
    asked for more than once, so that random points are drawn before it.
    """

    stays_in_box = False  # points of the ball are not cut to it, nor is the attack of ELLE's authors
    cuts_attack = False  # to the box

    weight: float  # lambda
    double_step = False  # of the optimizer, on one gradient
    adaptive = False  # lambda is that of ELLE-A: 0 until the penalty jumps
    decay = 0.99
    deviations = 2.0

    def begin(self, split: Split) -> None:
        if self.adaptive:
            self.state["lambda"] = torch.zeros((), device=split.where)
            self.state["penalty"] = torch.zeros((), device=split.where)  # of the last minibatch
            self.state["past"] = torch.zeros(3, dtype=torch.float64, device=split.where)  # penalties: n, sum, squares

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        delta, known = self.prepare(learner, batch, effort)

        def objective() -> tuple[Tensor, Tensor]:
            penalty = self.penalty(learner, batch, delta, known)
            if self.adaptive:
                self.state["penalty"].copy_(penalty.detach())
            loss, logits = self.loss(learner, batch, delta)  # last: M is the gradient for the attacked images
            return loss + (self.state["lambda"] if self.adaptive else self.weight) * penalty, logits

        learner.minimise(objective, steps=self.updates(effort))
        if self.adaptive:
            self.adapt(self.state["penalty"].double())

    def adapt(self, penalty: Tensor) -> None:
        """Set the next minibatch's lambda: up after a penalty far above the mean of all before it, else lower."""
        strength, past = self.state["lambda"], self.state["past"]
        number, total, squares = past
        mean = total / number.clamp_min(1)
        deviation = (squares / number.clamp_min(1) - mean.square()).clamp_min(0).sqrt()
        jumped = (number > 2) & (penalty > mean + self.deviations * deviation)
        strength.copy_(torch.where(jumped, self.weight, self.decay * strength))
        past += torch.stack([torch.ones_like(penalty), penalty, penalty.square()])

    def updates(self, effort: Effort) -> int:
        return 2 if self.double_step else 1

    def prepare(self, learner: Learner, batch: Batch, effort: Effort) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The perturbation, and what else the penalty is made of."""
        return self.perturbation(learner, batch, effort), ()

    def penalty(self, learner: Learner, batch: Batch, delta: Tensor, known: tuple[Tensor, ...]) -> Tensor:
        """A scalar, to be differentiated for the weights."""
        raise NotImplementedError

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort, first: Tensor | None = None) -> Tensor:
        """FGSM from the images. first: the gradient there, where it is known."""
        delta = torch.zeros_like(batch.images).requires_grad_()
        for step in range(effort.steps):
            known = first if step == 0 else None
            gradient = self.gradient(learner, batch, delta) if known is None else known
            delta = self.threat.project(delta.detach() + effort.step_size * self.threat.direction(gradient))
            if self.cuts_attack:
                delta = self.threat.box(batch.images, delta)
        return delta

    def gradient_at_images(self, learner: Learner, batch: Batch) -> Tensor:
        """Of the cross entropy, in a pass that crafts; it is a constant of the penalty."""
        return self.gradient(learner, batch, torch.zeros_like(batch.images).requires_grad_())

    def gradient_at(self, learner: Learner, batch: Batch, delta: Tensor) -> Tensor:
        """Of the cross entropy for `delta`, in a pass that trains, and itself to be differentiated for the weights."""
        loss = self.cross_entropy(learner(batch.images + delta), batch.labels)
        return learner.input_gradient(loss, delta, create_graph=True)
