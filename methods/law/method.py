"""FGSM-LAW: Lipschitz regularisation and auto weight averaging."""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods import Batch, Effort, Learner, Split
from methods.gates import kept_accuracy
from methods.losses import relaxed_cross_entropy
from methods.two_stage import TwoStage


class LAW(TwoStage):
    """Jia et al., 2024: outputs and features are held still while images move, and weights averaged while attacks work.

    One step starts at a random corner of half the ball. The average takes a minibatch's weights in only where the
    attack left the network less than the share `gate` of its accuracy.
    """

    ranges = {
        "label_weight": (0, 1),
        "lipschitz": (0, 1000),
        "offset": (0.001, 1000),
        "gate": (0, 1000),
        "average_decay": (0, 1),
    }
    choices = {"attack_on": ("probabilities", "logits")}
    least_steps = 1
    smooths_labels = False
    averages_weights = True

    label_weight: float
    lipschitz: float
    offset: float
    gate: float
    average_decay: float
    attack_on: str

    def begin(self, split: Split) -> None:
        self.state["kept_accuracy"] = torch.zeros((), device=split.where)

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        super().train_batch(learner, batch, effort)
        learner.average.update(self.average_decay, when=self.state["kept_accuracy"] < self.gate)

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        corner = self.threat.eps / 2 * self.threat.random_start(batch.images).sign()
        start = self.threat.box(batch.images, corner)
        return self.ascent(learner, batch, start, effort, lambda logits: self.attack_loss(logits, batch.labels))

    def attack_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The authors' is of probabilities taken for logits, so that its softmax is the second."""
        return F.cross_entropy(logits.softmax(1) if self.attack_on == "probabilities" else logits, labels)

    def loss(self, learner: Learner, batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor]:
        clean, clean_features = learner.with_features(batch.images)
        attacked, features = learner.with_features(batch.images + delta)
        self.state["kept_accuracy"].copy_(kept_accuracy(clean, attacked, batch.labels))
        moved = F.mse_loss(attacked.softmax(1), clean.softmax(1))
        moved = moved + F.mse_loss(features.softmax(1), clean_features.softmax(1))
        slope = moved / (delta.square().mean() + self.offset)
        return relaxed_cross_entropy(attacked, batch.labels, self.label_weight) + self.lipschitz * slope, attacked
