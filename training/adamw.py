"""Adam with decoupled weight decay."""

from collections.abc import Iterable

import torch
from torch import nn

from training.optimizing import InPlace


class AdamW(InPlace):
    """Loshchilov and Hutter, 2019, Algorithm 2: the numbers of torch.optim.AdamW(..., fused=True), by the same kernel.

    state: "step" (), "exp_avg" and "exp_avg_sq". Every weight decays, by the rate times `weight_decay`.
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
            weight: {
                "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }
            for weight in self.param_groups[0]["params"]
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights that have a gradient."""
        (group,) = self.param_groups
        weights, gradients = self.to_update()
        steps, means, squares = (
            [self.state[weight][name] for weight in weights] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            weights,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
