"""Stochastic gradient descent with momentum, ready in no time."""

import torch
from torch import Tensor, nn


class SGD:
    """The numbers of torch.optim.SGD(..., fused=True), by the same kernel, and of its interface what training uses.

    PyTorch's optimizers import its compiler when the first is made, which takes longer than a small network's epochs.
    Momentum starts at 0, which gives the same first update as none, so that all of the state is there from the start.

    param_groups: one, whose "lr" may be changed before each step, to a number or a tensor () on the weights' device,
        and whose "momentum" to such a tensor, if it was not 0.
    state: for each weight its "momentum_buffer", where there is momentum.
    """

    def __init__(self, parameters, *, lr: float, momentum: float, weight_decay: float):
        weights: list[nn.Parameter] = list(parameters)
        self.param_groups = [{"params": weights, "lr": lr, "momentum": momentum, "weight_decay": weight_decay}]
        self.state = {weight: {"momentum_buffer": torch.zeros_like(weight)} for weight in weights if momentum}

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights that have a gradient."""
        (group,) = self.param_groups
        weights = [weight for weight in group["params"] if weight.grad is not None]
        velocities = [self.state[weight]["momentum_buffer"] for weight in weights if self.state]
        momentum = group["momentum"]
        if isinstance(momentum, Tensor):  # of which the kernel takes none
            torch._foreach_mul_(velocities, momentum)
            momentum = 1.0
        torch._fused_sgd_(
            weights,
            [laid_out_as(weight, weight.grad) for weight in weights],
            velocities,
            weight_decay=group["weight_decay"],
            momentum=momentum,
            lr=group["lr"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )

    def zero_grad(self) -> None:
        """Let go of the gradients."""
        for weight in self.param_groups[0]["params"]:
            weight.grad = None

    def state_dict(self) -> dict[str, dict[int, dict[str, Tensor]]]:
        """The momentum, by the place of its weight; rates are the schedule's."""
        return {"state": dict(enumerate(self.state.values()))}

    def load_state_dict(self, state: dict) -> None:
        """Take over what `state_dict` gave, into the tensors that are there."""
        for own, given in zip(self.state.values(), state["state"].values(), strict=True):
            own["momentum_buffer"].copy_(given["momentum_buffer"])


def laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the memory layout of its weight: the kernel goes through both as they lie, and does not check."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
