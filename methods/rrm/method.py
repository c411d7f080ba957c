"""Robust representation matching."""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods import Batch, Effort, Learner, Method

NORM_FLOOR = 1e-6


class RRM(Method):
    """Vaishnavi et al., 2022: learn a robust teacher's features of clean images; nothing is attacked.

    The option `label_weight` is that of the cross entropy beside the cosine of the features.
    """

    rules = ("constant",)
    most_steps = 0  # no perturbation is made
    ranges = {"label_weight": (0, 1000)}
    needs_teacher = True

    label_weight: float

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        with torch.no_grad():
            robust = self.features_of_teacher(batch.images)
        logits, features = learner.with_features(batch.images)
        alike = F.cosine_similarity(features, robust, dim=1, eps=NORM_FLOOR).mean()
        learner.descend(self.label_weight * self.cross_entropy(logits, batch.labels) - alike, logits)

    def features_of_teacher(self, images: Tensor) -> Tensor:
        return self.teacher.features(self.teacher.first_layer(images))
