"""TDAT: single steps from the last minibatch's perturbation, and labels that relax over the run."""

import math

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Position
from methods.losses import relaxed_cross_entropy
from methods.prior import Prior
from methods.starts import corner


class TDAT(Prior):
    """Tong et al., 2024 (taxonomy-driven): targets relax over the run, and the unsure are held together the most.

    Slot i starts from what slot i of the last minibatch ended with. Gamma, the label's weight in the targets, falls in
    the run. The distance between both passes' logits counts the more, the less sure of the label the first was.
    """

    ranges = {"scale": (0, 0.64), "floor": (0, 1), "distance": (0, 1000000), "momentum": (0, 1)}

    scale: float
    floor: float
    distance: float
    momentum: float

    def schedule(self, position: Position) -> dict[str, float]:
        return {"gamma": max(self.scale * math.tan(1 - position.epoch / position.epochs), self.floor)}

    def start(self, batch: Batch) -> Tensor:
        if "delta" not in self.state:
            self.state["delta"] = corner(self.threat, batch.images)
        return self.state["delta"][: len(batch)].clone().requires_grad_()

    def crafting_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return relaxed_cross_entropy(logits, batch.labels, batch.scalars["gamma"])

    def loss(
        self, learner: Learner, batch: Batch, start: Tensor, before: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        after, gamma = learner(batch.images + delta), batch.scalars["gamma"]
        true = gamma + (1 - gamma) / after.shape[1]  # PyTorch's label smoothing gives the label a share of the rest
        at_label = before.softmax(1).gather(1, batch.labels[:, None]).squeeze(1)
        distances = (before - after).square().sum(1) * torch.tanh(1.0000001 - at_label)
        return relaxed_cross_entropy(after, batch.labels, true) + self.distance * distances.mean(), after

    def keep(self, batch: Batch, effort: Effort, start: Tensor, gradient: Tensor, delta: Tensor) -> None:
        self.state["delta"][: len(batch)] = self.momentum * start.detach() + (1 - self.momentum) * delta.detach()
