"""Stochastic gradient descent with momentum."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.optimizing import InPlace


class SGD(InPlace):
    """The numbers of torch.optim.SGD(..., fused=True), by the same kernel.

    Momentum starts at 0, which gives the same first update as none. The group's "momentum" may be changed to a tensor
    () before a step, if it was not 0. state: "momentum_buffer", where there is momentum.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float):
        super().__init__(parameters, lr, momentum=momentum, weight_decay=weight_decay)
        if momentum:
            self.state = {
                weight: {"momentum_buffer": torch.zeros_like(weight)} for weight in self.param_groups[0]["params"]
            }

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights that have a gradient."""
        (group,) = self.param_groups
        weights, gradients = self.to_update()
        velocities = [self.state[weight]["momentum_buffer"] for weight in weights if self.state]
        momentum = group["momentum"]
        if isinstance(momentum, Tensor):  # of which the kernel takes none
            torch._foreach_mul_(velocities, momentum)
            momentum = 1.0
        torch._fused_sgd_(
            weights,
            gradients,
            velocities,
            weight_decay=group["weight_decay"],
            momentum=momentum,
            lr=group["lr"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
