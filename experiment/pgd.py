"""The PGD attack: what validation during training and the evaluation's PGD and margin PGD have in common."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiment.threat import LinfThreat

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


def attack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: LinfThreat,
    *,
    steps: int,
    step_size: float,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = cross_entropy,
) -> Attacked:
    """PGD with signed steps (Madry et al., 2018); an image that any iterate of any restart breaks is broken.

    network: in evaluation mode; images: (N, C, H, W) in [0, 1]; labels: (N,); step_size in pixel units. Images that
    are broken, those misclassified from the start among them, leave the batch: they cost nothing more, and what the
    others draw and reach does not depend on them.
    """
    adversarial = images.clone()
    with torch.no_grad():
        robust = network(images).argmax(1) == labels
    for _ in range(restarts):
        start = threat.random_start(images) if random_start else torch.zeros_like(images)
        active = robust.nonzero().squeeze(1)
        delta = start.detach()[active]
        for step in range(steps + 1):
            if len(active) == 0:
                break
            delta.requires_grad_()
            attacked = images[active] + delta
            with torch.set_grad_enabled(step < steps):
                logits = network(attacked)
            adversarial[active] = attacked.detach()
            broken = logits.argmax(1) != labels[active]
            robust[active[broken]] = False
            if step < steps:
                (gradient,) = torch.autograd.grad(loss(logits, labels[active]).sum(), delta)
                kept = ~broken
                active = active[kept]
                delta = threat.ascend(images[active], delta[kept], gradient[kept], step_size).detach()
    return Attacked(robust, adversarial)
