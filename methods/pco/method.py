"""FGSM-PCO, mixing previous and present examples by confidence."""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods import Batch, Effort, Learner, Split, stores
from methods.losses import relaxed_cross_entropy
from methods.prior import Prior
from methods.starts import corner


class PCO(Prior):
    """Wang et al., 2024: train between the last epoch's example and the present one.

    The less sure the network is of a label at the start, the more of the start is in the mixture; the present example
    enters it 1.5 times as far from the image as it is.
    """

    ranges = {"label_weight": (0, 1), "consistency": (0, 1000), "reach": (0, 100)}
    stays_in_ball = False  # |delta| reaches 1.5 eps

    label_weight: float
    consistency: float
    reach: float

    def begin(self, split: Split) -> None:
        delta = torch.zeros(split.images, *split.shape, device=split.where)
        self.state["delta"] = corner(self.threat, delta)

    def start(self, batch: Batch) -> Tensor:
        return stores.read(self.state["delta"], batch).requires_grad_()

    def crafting_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return relaxed_cross_entropy(logits, batch.labels, self.label_weight)

    def loss(
        self, learner: Learner, batch: Batch, start: Tensor, before: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        doubt = 1 - before.softmax(1).gather(1, batch.labels[:, None])[:, :, None, None]
        mixture = doubt * (batch.images + start) + (1 - doubt) * (batch.images + self.reach * delta)
        after = learner(batch.images + delta)
        mixed = learner(mixture)
        uneven = (F.mse_loss(after, before) - F.mse_loss(after, mixed)).abs()
        return self.crafting_loss(mixed, batch) + self.consistency * uneven, mixed

    def keep(self, batch: Batch, effort: Effort, start: Tensor, gradient: Tensor, delta: Tensor) -> None:
        stores.write(self.state["delta"], batch, delta)
