"""The PGD attack: what validation during training and the evaluation's PGD and margin PGD have in common."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiment.threats.threat import Threat

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each image, (N,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y of each image, (N,): what the field calls the CW loss (Carlini & Wagner, 2017)."""
    true = F.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(true, -torch.inf).amax(1) - logits[true]


@dataclass
class Attacked:
    """robust: (N,) bool, no iterate was misclassified; adversarial: (N, C, H, W), the breaking or else last iterate."""

    robust: Tensor
    adversarial: Tensor


def predictions(network: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """The class of each image, (N,), by no more than `batch_size` images at a time."""
    with torch.no_grad():
        return torch.cat([network(batch).argmax(1) for batch in images.split(batch_size)])


def attack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    steps: int,
    step_size: float,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = cross_entropy,
    batch_size: int | None = None,
) -> Attacked:
    """PGD (Madry et al., 2018) in the threat's norm; an image that any iterate of any restart breaks is broken.

    network: in evaluation mode; images: (N, C, H, W) in [0, 1]; labels: (N,); step_size in pixel units; batch_size:
    images shown to the network at a time, all unless said. Images that are broken, those misclassified from the start
    among them, leave the batch: they cost nothing more. What an image draws and reaches depends neither on the others
    nor on batch_size.
    """
    batch_size = batch_size or max(1, len(images))
    attacked = Attacked(predictions(network, images, batch_size) == labels, images.clone())
    for _ in range(restarts):
        start = threat.random_start(images).detach() if random_start else torch.zeros_like(images)
        for active in attacked.robust.nonzero().squeeze(1).split(batch_size):
            _climb(network, images, labels, threat, attacked, active, start[active], steps, step_size, loss)
    return attacked


def _climb(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    attacked: Attacked,
    active: Tensor,
    delta: Tensor,
    steps: int,
    step_size: float,
    loss: Loss,
) -> None:
    """Attack the images of these indices from `delta` on, each until it is broken, and note what becomes of it."""
    images, labels = images[active], labels[active]
    for step in range(steps + 1):
        if len(active) == 0:
            return
        delta.requires_grad_()
        adversarial = images + delta
        with torch.set_grad_enabled(step < steps):
            logits = network(adversarial)
        kept = logits.argmax(1) == labels
        attacked.adversarial[active] = adversarial.detach()
        attacked.robust[active] = kept
        if step < steps:
            (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), delta)
            kept = kept.nonzero().squeeze(1)
            active, images, labels = active[kept], images[kept], labels[kept]
            delta = threat.ascend(images, delta[kept], gradient[kept], step_size).detach()
