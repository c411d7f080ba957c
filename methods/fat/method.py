"""FAT: friendly adversarial training."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Position
from methods.two_stage import TwoStage


class FAT(TwoStage):
    """Zhang et al., 2020: PGD-K that stops, image by image, tau steps after the network is first fooled.

    `effort.steps` is K. The options are theirs: `tau`, or with `dynamic_tau` 0, 1 and then 2 in the course of the run;
    `omega`, the spread of the normal noise that each step adds, in pixel units.
    """

    ranges = {"tau": (0, 1000), "omega": (0, 1)}
    published_batch_norm = "eval"

    tau: int
    dynamic_tau: bool
    omega: float

    def schedule(self, position: Position) -> dict[str, float]:
        done = 120 * (position.epoch + 1) / position.epochs  # of the authors' 120 epochs, the present one included
        return {"tau": float((done > 50) + (done > 90)) if self.dynamic_tau else float(self.tau)}

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        images, labels = batch.images, batch.labels
        delta = self.threat.random_start(images)
        left = batch.scalars["tau"].expand(len(batch))
        active = torch.ones_like(labels, dtype=torch.bool)
        for _ in range(effort.steps):
            logits = learner.craft(images + delta)
            gradient = learner.input_gradient(self.cross_entropy(logits, labels), delta)
            fooled = logits.argmax(1) != labels
            active = active & ~(fooled & (left == 0))
            left = left - (active & fooled).to(left.dtype)
            further = self.threat.ascend(images, self.shaken(delta), gradient, effort.step_size)
            delta = torch.where(active[:, None, None, None], further, delta).detach().requires_grad_()
        return delta

    def shaken(self, delta: Tensor) -> Tensor:
        if not self.omega:
            return delta
        return delta + torch.empty_like(delta).normal_(0, self.omega, generator=self.threat.generator)
