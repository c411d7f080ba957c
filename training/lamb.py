"""Adam's steps, each layer's as long as a share of its weights: for large minibatches."""

from collections.abc import Iterable

import torch
from torch import nn

from training.optimizing import InPlace

LONGEST = 10.0  # a layer counts as no longer than this: the upper bound of the paper's phi, as DAT's authors have it


class LAMB(InPlace):
    """You et al., 2020 (Large Batch Optimization for Deep Learning), Algorithm 2, as DAT (Zhang et al., 2022) trains.

    For each tensor of weights w, with gradient g:

        m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2        u = m / (sqrt(v) + eps) + decay w
        w <- w - lr r u               r = min(|w|, 10) / |u|, or 1 where either norm is 0

    m and v are not divided by 1 - b^t, which DAT leaves out and the paper has. Every weight decays.
    state: "exp_avg" (m) and "exp_avg_sq" (v).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ):
        super().__init__(parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay)
        self.state = {
            weight: {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
            for weight in self.param_groups[0]["params"]
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights that have a gradient."""
        (group,) = self.param_groups
        weights, gradients = self.to_update()
        means, squares = ([self.state[weight][name] for weight in weights] for name in ("exp_avg", "exp_avg_sq"))
        first, second = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, group["eps"])
        updates = torch._foreach_div(means, scales)
        torch._foreach_add_(updates, weights, alpha=group["weight_decay"])
        lengths = torch.stack(torch._foreach_norm(weights)).clamp(max=LONGEST)
        strides = torch.stack(torch._foreach_norm(updates))
        trust = torch.where((lengths > 0) & (strides > 0), lengths / strides, 1.0) * group["lr"]
        torch._foreach_mul_(updates, list(trust))
        torch._foreach_sub_(weights, updates)
