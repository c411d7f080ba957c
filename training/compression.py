"""Gradients in a few bits, as processes that share the work of a minibatch would send them to each other."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def compress(weights: Iterable[nn.Parameter], bits: int, generator: torch.Generator) -> None:
    """Put in place of each weight's gradient what is left of it after `compressed`."""
    for weight in weights:
        if weight.grad is not None:
            weight.grad = compressed(weight.grad, bits, generator)


def compressed(gradient: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """The gradient from its sign, its norm, and each entry's share of the norm in `bits` bits.

    A share is rounded up or down at random, so that the expectation is the gradient itself (DAT, Zhang et al., 2022:
    quantization.py of dat-2022/dat, where 7 bits and a sign make a byte).
    """
    levels = 2**bits - 1
    norm = gradient.norm()
    share = torch.where(norm > 0, gradient.abs() / norm, 0) * levels
    chance = torch.rand(gradient.shape, generator=generator, device=gradient.device, dtype=gradient.dtype)
    level = (share + chance).floor().clamp(max=levels)
    return gradient.sign() * norm * level / levels
