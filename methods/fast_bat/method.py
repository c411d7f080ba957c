"""Fast adversarial training as a bi-level problem."""

from torch import Tensor

from methods import Batch, Effort, Learner, Method

SMALL = 8 / 255 + 1e-9  # the largest radius of `rate`


class FastBAT(Method):
    """Zhang et al., 2022 (Fast-BAT): two steps along the gradient itself, and an update that sees how the second moves.

    The second perturbation z maximises a linearised loss, less lambda/2 times a squared distance. How it depends on the
    weights is the gradient of a gradient, where neither ball nor box holds a component of it.
    """

    ranges = {"rate": (0, 1e6), "rate_beyond": (0, 1e6), "lmbda": (1e-6, 1e6)}
    least_steps = most_steps = 2
    rules = ("constant",)
    reuses_crafting_graph = True  # the second step's, for the gradient of its gradient

    rate: float
    rate_beyond: float
    lmbda: float

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels = batch.images, batch.labels
        start = self.threat.random_start(images)
        first = learner.input_gradient(self.summed(learner.craft(images + start), labels), start)
        delta = self.climbed(images, start, first)
        second = learner.input_gradient(self.summed(learner(images + delta), labels), delta, create_graph=True)
        best = self.climbed(images, delta, second.detach())
        outer = learner.input_gradient(self.summed(learner.craft(images + best), labels), best)
        moves = self.is_free(images, best) * outer / self.lmbda
        implicit = (second * moves).sum() / len(images)
        logits = learner(images + best)
        loss = self.cross_entropy(logits, labels)
        learner.descend(loss + implicit - implicit.detach(), logits)  # the implicit part is a gradient, and no loss

    def summed(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.cross_entropy(logits, labels, reduction="sum")

    def climbed(self, images: Tensor, delta: Tensor, gradient: Tensor) -> Tensor:
        rate = self.rate if self.threat.eps <= SMALL else self.rate_beyond
        return self.threat.box(images, self.threat.project(delta.detach() + rate * gradient))

    def is_free(self, images: Tensor, delta: Tensor) -> Tensor:
        """1 where neither ball nor box holds the perturbation, else 0."""
        least, most = (-images).clamp_min(-self.threat.eps), (1 - images).clamp_max(self.threat.eps)
        return ((delta > least + 1e-7) & (delta < most - 1e-7)).to(images.dtype)
