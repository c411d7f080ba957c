"""What the validation split says of a network after an epoch; outside the clock."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiment.pgd import attack
from experiment.threats.threat import Threat

BATCH_SIZE = 500


@dataclass(frozen=True)
class Accuracies:
    """Fractions of the validation split: unattacked, under one gradient step of eps, and under PGD."""

    clean: float
    fgsm: float
    pgd: float


def validate(network: nn.Module, images: Tensor, labels: Tensor, threat: Threat, steps: int) -> Accuracies:
    """Attack the validation split, uint8 images (N, C, H, W), with FGSM and with `steps` PGD steps of eps/4.

    The network is put in evaluation mode and back.
    """
    clean = fgsm = pgd = 0
    mode = network.training
    network.eval()
    try:
        for x, y in zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
            x = x.float().div_(255)
            with torch.no_grad():
                clean += (network(x).argmax(1) == y).sum().item()
            fgsm += attack(network, x, y, threat, steps=1, step_size=threat.eps, random_start=False).robust.sum().item()
            pgd += attack(network, x, y, threat, steps=steps, step_size=threat.eps / 4).robust.sum().item()
    finally:
        network.train(mode)
    return Accuracies(clean / len(images), fgsm / len(images), pgd / len(images))
