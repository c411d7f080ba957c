"""AutoAttack's standard version, from its package; nothing of it is written again here."""

import logging
from contextlib import contextmanager

from torch import Tensor, nn

from experiment.pgd import Attacked


def attack(
    network: nn.Module, images: Tensor, labels: Tensor, *, eps: float, seed: int, batch_size: int
) -> tuple[Attacked, list[str]]:
    """What APGD-CE, APGD-T, FAB-T and Square (Croce & Hein, 2020) make of the images, and the package's warnings.

    images: (N, C, H, W) in [0, 1]; network: gives logits, frozen, in evaluation mode, on the images' device;
    batch_size: images attacked at a time. The package draws for whole batches: what it finds depends on it as on seed.
    """
    from pyautoattack import AutoAttack  # it takes as long to import as a small attack to run

    with _warnings(batch_size) as warnings:
        adversary = AutoAttack(network, norm="Linf", eps=eps, version="standard", seed=seed, device=images.device)
        adversarial, classes = adversary.run_standard_evaluation(images, labels, batch_size=batch_size)
    return Attacked(classes == labels, adversarial), warnings


@contextmanager
def _warnings(batch_size: int):
    """Collects what the package warns of, which it says to a logger only, and of how large a batch it counts points."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record):
            message = " ".join(record.getMessage().split())
            message = message.replace("points with zero gradient", f"points of up to {batch_size} with zero gradient")
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
