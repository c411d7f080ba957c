"""TE: adversarial training with temporal ensembling."""

import math

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Position, Split
from methods.losses import kl_divergence
from methods.starts import gaussian
from methods.stores import read, write
from methods.two_stage import TwoStage


class TE(TwoStage):
    """Dong et al., 2022: a network memorises labels late in training; hold it to what it has said of each image so far.

    From the share `start` of the run on, predictions of clean images are averaged over epochs, and the squared distance
    from the average joins the loss, in the attack as in the update, with a weight that grows up to the share `full`.
    The option `host` says which loss it joins: PGD's, or TRADES', whose update holds the clean images to the average.
    """

    choices = {"host": ("pgd", "trades")}
    ranges = {"weight": (0, 1e6), "momentum": (0, 1), "start": (0, 1), "full": (0, 1), "beta": (0, 1000)}
    stays_in_box = False  # the start of the search is not cut to it
    published_batch_norm = "eval"
    smooths_labels = False

    host: str
    weight: float
    momentum: float
    start: float
    full: float
    beta: float

    def begin(self, split: Split) -> None:
        self.state["average"] = torch.zeros(split.images, split.classes, device=split.where)

    def schedule(self, position: Position) -> dict[str, float]:
        epoch, start, full = position.epoch + 1, self.start * position.epochs, self.full * position.epochs
        if epoch < start:
            return {"begun": 0.0, "weight": 0.0}
        missing = (full - epoch) / (full - start) if epoch < full else 0.0
        return {"begun": 1.0, "weight": self.weight * math.exp(-5 * missing**2)}

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        images, clean = batch.images, self.remembered(learner, batch)

        def objective(logits: Tensor) -> Tensor:
            if self.host == "pgd":
                return self.cross_entropy(logits, batch.labels) + self.distance(logits, batch)
            return self.beta * kl_divergence(clean, logits) + self.distance(logits, batch)

        start = self.threat.noise(images) if self.host == "pgd" else gaussian(self.threat, images)
        return self.threat.box(images, self.ascent(learner, batch, start, effort, objective))

    def loss(self, learner: Learner, batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor]:
        if self.host == "pgd":
            loss, attacked = super().loss(learner, batch, delta)
            return loss + self.distance(attacked, batch), attacked
        clean, attacked = learner(batch.images), learner(batch.images + delta)
        loss = self.cross_entropy(clean, batch.labels) + self.beta * kl_divergence(clean, attacked)
        return loss + self.distance(clean, batch), attacked

    def remembered(self, learner: Learner, batch: Batch) -> Tensor:
        """Logits of the clean images, whose probabilities the average takes in."""
        with torch.no_grad():
            clean = learner.look(batch.images)
        old = read(self.state["average"], batch)
        new = self.momentum * old + (1 - self.momentum) * clean.softmax(1)
        write(self.state["average"], batch, torch.where(batch.scalars["begun"] > 0, new, old))
        return clean

    def distance(self, logits: Tensor, batch: Batch) -> Tensor:
        """The weighted mean over images and classes; the average began from zero and is scaled to a sum of 1 first."""
        average = read(self.state["average"], batch)
        total = average.sum(1, keepdim=True)
        target = average / torch.where(total > 0, total, 1)
        return batch.scalars["weight"] * (logits.softmax(1) - target).square().mean()
