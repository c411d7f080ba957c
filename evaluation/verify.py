"""What an attack's search comes to, and the check that every claimed success must pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from evaluation import fast_inference
from evaluation.attacks.attack import Attack
from experiment import attacks, pgd, plugins
from experiment.pgd import Attacked
from experiment.threats.threat import Threat


@dataclass
class Verdicts:
    """What an attack came to, in the images' order.

    robust: (N,) bool; adversarial: (N, C, H, W), what was made of the images; flags: what made the verdicts doubtful.
    """

    robust: Tensor
    adversarial: Tensor
    flags: list[str] = field(default_factory=list)


def attack(settings: Mapping[str, Any], network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Verdicts:
    """Attack one chunk of images, (N, C, H, W) in [0, 1], with what a resolved suite says of an attack.

    network: frozen, in evaluation mode, on the images' device; seed: of this chunk.
    Only adversarial images that lie inside the ball and the box and are misclassified by the network itself count. The
    search runs on a faster form of the network and leaves an image at its first success there, so that images whose
    success the network itself does not confirm are attacked once more, on the network itself.
    """
    its, threat = attacks.of_settings(settings), partial(threat_of, settings, images, seed)
    batch_size = fast_inference.batch_size(network, images)
    check = partial(verify, network, threat=threat(), batch_size=batch_size)
    with fast_inference.tf32(images.device):
        searched = fast_inference.searched(network, images)
        found, flags = search(its, searched, images, labels, threat, seed, batch_size)
    verdicts = check(images, found.adversarial, labels, flags=flags)
    refuted = verdicts.robust & ~found.robust & threat().admits(images, found.adversarial)
    if refuted.any():
        few = images[refuted]
        found, flags = search(its, network, few, labels[refuted], threat, seed, batch_size)
        again = check(few, found.adversarial, labels[refuted], flags=flags)
        verdicts.robust[refuted], verdicts.adversarial[refuted] = again.robust, again.adversarial
        left = int((again.robust & ~found.robust & threat().admits(few, found.adversarial)).sum())
        doubt = [f"{left} successes of the search were not confirmed and count as robust"] if left else []
        verdicts.flags += [flag for flag in again.flags + doubt if flag not in verdicts.flags]
    return verdicts


def search(
    its: Attack,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Callable[[], Threat],
    seed: int,
    batch_size: int,
) -> tuple[Attacked, list[str]]:
    """What the attack finds on this network, still to be verified, and what made it doubtful.

    threat: makes the threat model anew; batch_size: images shown to the network at a time, fewer where a GPU's memory
    does not suffice.
    """
    return fast_inference.fitting(
        lambda batch_size: its.search(network, images, labels, threat(), seed, batch_size), batch_size
    )


def threat_of(settings: Mapping[str, Any], images: Tensor, seed: int) -> Threat:
    """An attack's threat model; it draws from `seed`, on the images' device."""
    norm, eps = settings["threat"]["norm"], settings["threat"]["eps"]
    return plugins.load("threat", norm)(eps, torch.Generator(images.device).manual_seed(seed))


def verify(
    network: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    threat: Threat,
    flags: list[str],
    batch_size: int = 500,
) -> Verdicts:
    """Classify clean and adversarial images anew: an image counts as robust if it and what was made of it are right.

    An adversarial image outside the threat model does not count, and is flagged.
    """
    admitted = threat.admits(images, adversarial)
    wrong, broken = (pgd.predictions(network, shown, batch_size) != labels for shown in (images, adversarial))
    outside = int((~admitted).sum())
    if outside:
        flags = [*flags, f"{outside} adversarial images outside the threat model do not count"]
    return Verdicts(~(wrong | (broken & admitted)), adversarial, flags)
