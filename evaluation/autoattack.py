"""AutoAttack's standard version, from its package; nothing of it is written again here."""

import logging
from contextlib import contextmanager

from torch import Tensor, nn

BATCH_SIZE = 500


def attack(network: nn.Module, images: Tensor, labels: Tensor, *, eps: float, seed: int) -> tuple[Tensor, list[str]]:
    """Adversarial images (N, C, H, W) of APGD-CE, APGD-T, FAB-T and Square (Croce & Hein, 2020), and its warnings.

    images: in [0, 1]; network: gives logits, frozen, in evaluation mode, on the images' device.
    """
    from pyautoattack import AutoAttack  # it takes as long to import as a small attack to run

    with _warnings() as warnings:
        adversary = AutoAttack(network, norm="Linf", eps=eps, version="standard", seed=seed, device=images.device)
        adversarial, _ = adversary.run_standard_evaluation(images, labels, batch_size=BATCH_SIZE)
    return adversarial, warnings


@contextmanager
def _warnings():
    """Collects what the package warns of, which it says to a logger only."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record):
            message = " ".join(record.getMessage().split())
            if message not in collected:
                collected.append(message)

    logger, collector = logging.getLogger("auto-attack"), Collector(logging.WARNING)
    propagates = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield collected
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates
