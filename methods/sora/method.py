"""SORA: single steps whose length follows how the gradient turns along them."""

import torch

from methods import Batch, Effort, Learner, Method, Split


class SORA(Method):
    """Teymourian et al., 2026: the step is the shorter, the less the update's gradient agrees with the attack's.

    Both gradients for the perturbation are there anyway: that of the step, and that of the backward which updates the
    weights. rho is a running mean of their agreement, and `effort.step_size` the longest step, of which every pixel
    makes a random part, without projection.
    """

    least_steps = 1
    stays_in_ball = False  # |delta| reaches 3 eps

    def begin(self, split: Split) -> None:
        self.state["rho"] = torch.full((), 0.99, dtype=torch.float64, device=split.where)

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels, rho = batch.images, batch.labels, self.state["rho"]
        share = torch.where(rho < 0.98, 0.02 / (1 - rho), 1.0)  # min(1, 0.02 / (1 - rho)), and 1 where rho is 1
        delta, gradient = self.threat.random_start(images), torch.zeros_like(images)
        for _ in range(effort.steps):
            logits = learner.craft(images + delta)
            gradient = learner.input_gradient(self.cross_entropy(logits, labels), delta)
            part = torch.empty_like(images).uniform_(generator=self.threat.generator)
            delta = self.threat.box(images, delta + share * effort.step_size * part * gradient.sign())
        logits = learner(images + delta)
        after = learner.descend(self.cross_entropy(logits, labels), logits, delta)
        agreement = (gradient.sign() * after).flatten(1).sum(1) / gradient.abs().flatten(1).sum(1).clamp(min=1e-12)
        rho.mul_(0.95).add_(0.05 * agreement.mean().clamp(-1, 1))
