"""FGSM-PGK: prior-guided knowledge."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Split
from methods.gates import kept_accuracy
from methods.pgi.method import PGI

NEARLY_ALL = 0.99999  # of the average is kept where the attack is as weak as `gate` says


class PGK(PGI):
    """Jia et al., 2024: FGSM-MEP, whose momentum gains more of attacks that work, and an average of its weights.

    The attack has worked where it left the network less than the share `gate` of its accuracy at the step's start. The
    average then moves on; where it has not, the average all but stays.
    """

    ranges = {
        "decay": (0, 1),
        "label_weight": (0, 1),
        "consistency": (0, 1000),
        "reset": (1, 10000),
        "gate": (0.001, 1000),
        "average_decay": (0, 1),
    }
    choices = {}
    averages_weights = True

    momentum = True
    converge_smooth = "none"
    gate: float
    average_decay: float

    def begin(self, split: Split) -> None:
        super().begin(split)
        self.state["kept_accuracy"] = torch.zeros((), device=split.where)

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        super().train_batch(learner, batch, effort)
        kept = self.state["kept_accuracy"]
        held = (NEARLY_ALL * kept / self.gate).clamp(max=1)
        learner.average.update(torch.where(kept < self.gate, self.average_decay, held))

    def loss(
        self, learner: Learner, batch: Batch, start: Tensor, before: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        loss, after = super().loss(learner, batch, start, before, delta)
        self.state["kept_accuracy"].copy_(kept_accuracy(before, after, batch.labels))
        return loss, after

    def push(self, gradient: Tensor) -> Tensor:
        return (2 - self.state["kept_accuracy"]) * super().push(gradient)
