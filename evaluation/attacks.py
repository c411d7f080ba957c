"""The attacks by name, and the check that every claimed success must pass."""

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from evaluation import autoattack
from experiment import pgd
from experiment.threat import THREATS

LOSSES = {"pgd": pgd.cross_entropy, "margin": pgd.margin}


@dataclass
class Verdicts:
    """robust: (N,) bool, in the images' order; flags: what made the verdicts doubtful, in words."""

    robust: Tensor
    flags: list[str] = field(default_factory=list)


def attack(settings: dict, network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Verdicts:
    """Attack one chunk of images, (N, C, H, W) in [0, 1], with what a resolved suite says of an attack.

    network: frozen, in evaluation mode, on the images' device; seed: of this chunk.
    The search runs on a folded copy of the network. Only adversarial images that lie inside the ball and the box and
    are misclassified by the network itself count.
    """
    name, eps = settings["name"], settings["threat"]["eps"]
    generator = torch.Generator(images.device).manual_seed(seed)
    threat = THREATS[settings["threat"]["norm"]](eps, generator)
    flags: list[str] = []
    search = folded(network)
    if name == "clean":
        adversarial = images
    elif name == "autoattack":
        adversarial, flags = autoattack.attack(search, images, labels, eps=eps, seed=seed)
    elif name == "fgsm":
        adversarial = pgd.attack(search, images, labels, threat, steps=1, step_size=eps, random_start=False).adversarial
    else:
        kind, steps = re.fullmatch(r"(pgd|margin)-(\d+)", name).groups()
        adversarial = pgd.attack(
            search,
            images,
            labels,
            threat,
            steps=int(steps),
            step_size=settings["step_size"],
            restarts=settings["restarts"],
            loss=LOSSES[kind],
        ).adversarial
    return verify(network, images, adversarial, labels, threat, flags)


def folded(network: nn.Module) -> nn.Module:
    """The same function up to rounding, with batch norms folded into the convolutions that they follow: it is cheaper.

    A network that cannot be traced is returned as it is.
    """
    try:
        return fuse(network)
    except torch.fx.proxy.TraceError:
        return network


def verify(network, images: Tensor, adversarial: Tensor, labels: Tensor, threat, flags: list[str]) -> Verdicts:
    """Classify clean and adversarial images anew: an image counts as robust if it and what was made of it are right.

    An adversarial image outside the threat model does not count, and is flagged.
    """
    admitted = threat.admits(images, adversarial)
    with torch.no_grad():
        wrong = network(images).argmax(1) != labels
        broken = network(adversarial).argmax(1) != labels
    outside = int((~admitted).sum())
    if outside:
        flags = [*flags, f"{outside} adversarial images outside the threat model do not count"]
    return Verdicts(~(wrong | (broken & admitted)), flags)
