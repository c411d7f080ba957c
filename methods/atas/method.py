"""ATAS: fast adversarial training with adaptive step size."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Position, Split
from methods.stores import padded_shape, read, read_padded, write, write_padded
from methods.two_stage import TwoStage

AUTHORS_BATCH = 128  # c belongs to gradients of a mean over so many images


class ATAS(TwoStage):
    """Huang et al., 2022: ATTA's carried perturbations, and for each image a step, shorter the larger its gradient.

    `effort.step_size` is a, the step of the warm-up. After it an image's step is 2a / (1 + sqrt(h) / c), but at least
    a/2 and at most 7a/4, with h a moving average of its gradient's squared norm.
    """

    ranges = {"reset_every": (1, 1000), "warmup_epochs": (0, 1000), "c": (1e-6, 1000), "beta": (0, 1)}
    least_steps = 1
    published_batch_norm = "eval"

    reset_every: int
    warmup_epochs: int
    c: float
    beta: float

    def begin(self, split: Split) -> None:
        self.state["delta"] = torch.zeros(padded_shape(split.images, split.shape), device=split.where)
        self.state["h"] = torch.zeros(split.images, device=split.where)

    def begin_epoch(self, learner: Learner, position: Position) -> None:
        epoch = position.epoch + 1
        if epoch == 1 or (epoch % self.reset_every == 0 and epoch != position.epochs):
            eps = self.threat.eps
            self.state["delta"].uniform_(-eps, eps, generator=self.threat.generator)

    def schedule(self, position: Position) -> dict[str, float]:
        return {"warm": float(position.epoch < self.warmup_epochs)}

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        images = batch.images
        delta = self.threat.box(images, read_padded(self.state["delta"], batch))
        for _ in range(effort.steps):
            gradient = self.gradient(learner, batch, delta)
            step = self.step(batch, gradient, effort.step_size)[:, None, None, None]
            delta = self.threat.box(images, self.threat.project(delta.detach() + step * gradient.sign()))
        write_padded(self.state["delta"], batch, delta)
        return delta

    def step(self, batch: Batch, gradient: Tensor, unit: float) -> Tensor:
        """The length of each image's step, (B,), and h as it is after it. unit: a."""
        warm, h = batch.scalars["warm"] > 0, read(self.state["h"], batch)
        squared_norm = (gradient * (len(batch) / AUTHORS_BATCH)).square().sum((1, 2, 3))
        moved = self.beta * h + (1 - self.beta) * squared_norm
        write(self.state["h"], batch, torch.where(warm, h, moved))
        adaptive = (2 * unit / (1 + moved.sqrt() / self.c)).clamp(0.5 * unit, 1.75 * unit)
        return torch.where(warm, unit, adaptive)
