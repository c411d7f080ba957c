"""LIET: single steps from perturbations that tell the label, once that is erased in part."""

import torch
from torch import Tensor

from methods import Batch, Learner, Position, Split
from methods.losses import kl_divergence
from methods.prior import Prior


class LIET(Prior):
    """Pan et al., 2025 (label information elimination): start at a class's perturbation, mixed with noise.

    The perturbation of a class is the step that raises a grey image's loss for that class. A share of its values, drawn
    for each minibatch, gives way to noise, and a drawn sign turns it over. The targets of a cross entropy are drawn at
    each call; a divergence whose weight grows over the run holds the predictions of both passes together.
    """

    stays_in_box = True
    ranges = {
        "label_weight": (0, 1),
        "divergence": (0, 1000000),
        "least_noise": (0, 1),
        "most_noise": (0, 1),
        "refresh": (1, 1000000),
    }

    label_weight: float
    divergence: float
    least_noise: float
    most_noise: float
    refresh: int

    def begin(self, split: Split) -> None:
        self.state["signs"] = torch.zeros((split.classes, *split.shape), device=split.where)

    def schedule(self, position: Position) -> dict[str, float]:
        return {"divergence": self.divergence * (position.epoch + 1) / position.epochs}

    def before_batch(self, learner: Learner, batch: Batch, position: Position) -> None:
        if position.minibatch % self.refresh == 0:
            signs = self.state["signs"]
            grey = torch.full_like(signs, 0.5).requires_grad_()
            classes = torch.arange(len(signs), device=signs.device)
            signs.copy_(learner.input_gradient(self.drawn_cross_entropy(learner.look(grey), classes), grey).sign())

    def start(self, batch: Batch) -> Tensor:
        images, indicative = batch.images, self.threat.eps * self.state["signs"][batch.labels]
        drawn, noise = self.uniform(images.shape, images), self.threat.noise(images)
        share = self.least_noise + (self.most_noise - self.least_noise) * self.uniform((), images)
        side = torch.where(self.uniform((), images) < 0.5, -1, 1)
        return self.threat.box(images, side * torch.where(drawn < share, noise, indicative))

    def crafting_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.drawn_cross_entropy(logits, batch.labels)

    def loss(
        self, learner: Learner, batch: Batch, start: Tensor, before: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        after = learner(batch.images + delta)
        mean = torch.logaddexp(before.log_softmax(1), after.log_softmax(1))  # of both, times 2, as a logarithm
        divergence = (kl_divergence(before, mean) + kl_divergence(after, mean)) / 2
        return self.drawn_cross_entropy(after, batch.labels) + batch.scalars["divergence"] * divergence, after

    def drawn_cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """To `label_weight` on the label and, on the other classes, random weights that add up to the rest."""
        at_label = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
        drawn = self.uniform(logits.shape, logits).where(~at_label, 0)
        target = torch.where(at_label, self.label_weight, (1 - self.label_weight) * drawn / drawn.sum(1, keepdim=True))
        return -(target * logits.log_softmax(1)).sum(1).mean()

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Drawn from 0 to 1."""
        return torch.rand(shape, generator=self.threat.generator, device=like.device, dtype=like.dtype)
