"""AutoAttack and its parts, from the package pyautoattack; nothing of it is written again here."""

import logging
from collections.abc import Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from experiment.pgd import Attacked
from experiment.threats.threat import Threat

PARTS = {"apgd-ce": "apgd", "fab-t": "fab", "square": "square"}  # attributes of the package's AutoAttack


def attack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    seed: int,
    batch_size: int,
    alone: str | None = None,
    options: Mapping[str, int] | None = None,
) -> tuple[Attacked, list[str]]:
    """What the standard version (Croce & Hein, 2020) makes of the images, or one part alone, and the warnings.

    images: (N, C, H, W) in [0, 1]; network: gives logits, frozen, in evaluation mode, on the images' device;
    batch_size: images attacked at a time. The package draws for whole batches: what it finds depends on it as on seed.
    alone: one of `PARTS`; options: numbers of that part, as the package calls them.
    """
    from pyautoattack import AutoAttack  # it takes as long to import as a small attack to run

    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    which = {"version": "custom", "attacks": [alone]} if alone else {"version": "standard"}
    with _warnings(batch_size) as warnings:
        adversary = AutoAttack(network, norm=norm, eps=threat.eps, seed=seed, device=images.device, **which)
        for name, value in (options or {}).items():
            setattr(getattr(adversary, PARTS[alone]), name, value)
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
