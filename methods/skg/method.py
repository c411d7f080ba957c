"""SKG-FAT: single steps whose targets and regularisation are as strict with a class as it is hard."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Position, Split
from methods.losses import relaxed_cross_entropy
from methods.starts import corner
from methods.two_stage import TwoStage


class SKG(TwoStage):
    """Jiang et al., 2025 (self-knowledge guidance): class-wise weights from the accuracies of the epoch before.

    q of a class is the weight of its label in the targets, and the weight with which its attacked images' logits are
    pulled to the clean ones. Slot i starts from what slot i of the last minibatch ended with.
    """

    least_steps = 1
    smooths_labels = False
    perturbs_weights = False  # each pass of the update is counted among the class accuracies
    stays_in_box = False  # a start is not cut to the box of the image that it meets
    ranges = {"most": (0, 1), "least": (0, 1), "consistency": (0, 1000000)}

    most: float
    least: float
    consistency: float
    remap: bool

    def begin(self, split: Split) -> None:
        self.state["q"] = torch.full((split.classes,), self.most, device=split.where)
        self.state["right"] = torch.zeros_like(self.state["q"])
        self.state["seen"] = torch.zeros((), device=split.where)

    def begin_epoch(self, learner: Learner, position: Position) -> None:
        q, right, seen = (self.state[name] for name in ("q", "right", "seen"))
        if position.epoch > 0:
            accuracies = len(q) * right / seen  # of classes that are equally frequent
            q.copy_(accuracies if self.remap else self.weights(accuracies))
        right.zero_()
        seen.zero_()

    def weights(self, accuracies: Tensor) -> Tensor:
        return accuracies.log().abs().clamp(self.least, self.most)

    def schedule(self, position: Position) -> dict[str, float]:
        return {"accuracies_known": float(position.epoch > 0)}

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        if self.remap:
            q = self.state["q"]
            q.copy_(torch.where(batch.scalars["accuracies_known"] > 0, self.weights(q), q))
        super().train_batch(learner, batch, effort)

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        if "delta" not in self.state:
            self.state["delta"] = corner(self.threat, batch.images)
        carried, q = self.state["delta"][: len(batch)], self.state["q"][batch.labels]
        start = carried.clone().requires_grad_()
        delta = self.ascent(learner, batch, start, effort, lambda z: relaxed_cross_entropy(z, batch.labels, q))
        carried.copy_(delta.detach())
        return delta

    def loss(self, learner: Learner, batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor]:
        labels, q = batch.labels, self.state["q"][batch.labels]
        clean, attacked = learner(batch.images), learner(batch.images + delta)
        self.state["right"].index_put_((labels,), (clean.argmax(1) == labels).to(q), accumulate=True)
        self.state["seen"].add_(len(batch))
        of_class = (labels[:, None] == labels).sum(1)  # images of each one's class
        distances = (clean - attacked).square().mean(1) / of_class
        return relaxed_cross_entropy(attacked, labels, q) + self.consistency * (q * distances).sum(), attacked
