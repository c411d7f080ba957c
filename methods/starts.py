"""Where searches for a perturbation start, beside the threat model's own (`random_start`, `noise`)."""

import torch
from torch import Tensor

from experiment.threats.threat import Threat


def gaussian(threat: Threat, images: Tensor, deviation: float = 0.001) -> Tensor:
    """N(0, deviation^2) in pixel units, neither projected nor cut to the box: from the image itself KL has no gradient.

    Ready to be differentiated. TRADES and those after it start there (Zhang et al., 2019).
    """
    noise = torch.empty_like(images).normal_(0, deviation, generator=threat.generator)
    return noise.requires_grad_()


def corner(threat: Threat, images: Tensor, radius: float | None = None) -> Tensor:
    """-radius or radius in each value at random, `eps` unless said, not cut to the box; a constant."""
    signs = threat.noise(images).detach().sign_()
    return (threat.eps if radius is None else radius) * signs
