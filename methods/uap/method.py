"""FGSM-UAP: single steps that start from universal perturbations."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods import Batch, Effort, Learner, Split
from methods.prior import Prior
from methods.uap.clusters import CLUSTERS, Clusters

RADIUS = 1.25  # theirs: a universal perturbation is -1.25, 0 or 1.25 eps in each of its values


class UAP(Prior):
    """Pan et al., 2024: start from a perturbation that many images share, and move it along with the weights.

    The option `universal`: `one` for all images, one for each `class`, or one for each `cluster` of images, which a
    small head on the network's features tells apart while it learns to classify.
    """

    stays_in_box = True
    choices = {"universal": ("one", "class", "cluster")}
    ranges = {"smoothing": (0, 1), "consistency": (0, 1000000), "decay": (0, 1)}

    universal: str
    smoothing: float
    consistency: float
    decay: float

    def begin(self, split: Split) -> None:
        count = {"one": 1, "class": split.classes, "cluster": CLUSTERS}[self.universal]
        noise = self.threat.noise(torch.zeros((count, *split.shape), device=split.where)).detach()
        self.state["signs"], self.state["momentum"] = noise.sign(), torch.zeros_like(noise)

    def modules(self, network: nn.Module) -> dict[str, tuple[nn.Module, torch.optim.Optimizer | None]]:
        if self.universal != "cluster":
            return {}
        self.clusters = Clusters(cast(nn.Linear, network.classifier), self.threat.generator)
        return {"clusters": (self.clusters, self.clusters.optimizer)}

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        self.noise, self.which = torch.zeros_like(batch.images), batch.labels
        if self.universal == "one":
            self.which = torch.zeros_like(batch.labels)
        elif self.universal == "cluster":
            self.noise = self.threat.random_start(batch.images).detach()
            with torch.no_grad():
                features = learner.with_features(batch.images + self.noise)[1]
            self.which = self.clusters.told(features, lambda logits: self.crafting_loss(logits, batch))
        super().train_batch(learner, batch, effort)

    def start(self, batch: Batch) -> Tensor:
        universal = RADIUS * self.threat.eps * self.state["signs"][self.which]
        return self.threat.box(batch.images, self.threat.project(self.noise + universal))

    def crafting_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(logits, batch.labels, label_smoothing=self.smoothing)

    def loss(
        self, learner: Learner, batch: Batch, start: Tensor, before: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        after = learner(batch.images + delta)
        return self.crafting_loss(after, batch) + self.consistency * F.mse_loss(after, before), after

    def update(self, learner: Learner, loss: Tensor, after: Tensor, start: Tensor) -> None:
        self.pull = learner.descend(loss, after, start)

    def keep(self, batch: Batch, effort: Effort, start: Tensor, gradient: Tensor, delta: Tensor) -> None:
        signs, momentum = self.state["signs"], self.state["momentum"]
        gradient = gradient + self.pull  # as in their code, where the update's backward adds to the attack's
        shares = gradient / gradient.abs().sum().clamp_min(torch.finfo(gradient.dtype).tiny)
        sums = torch.zeros_like(momentum).index_put_((self.which,), shares, accumulate=True)
        met = (torch.arange(len(signs), device=signs.device)[:, None] == self.which).sum(1).view(-1, 1, 1, 1)
        momentum.copy_(torch.where(met > 0, sums / met.clamp_min(1) + self.decay * momentum, momentum))
        signs.copy_(torch.where(met > 0, (signs + momentum.sign()).clamp(-1, 1), signs))
