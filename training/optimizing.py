"""What the optimizers share: state that is there from the start, and of PyTorch's interface what training uses.

PyTorch's own optimizers import its compiler when the first is made, which takes longer than a small network's epochs,
and make their state in their first step, where it cannot be recorded.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class InPlace:
    """An optimizer of one group of weights; a subclass has `step`, which changes weights and state in place.

    param_groups: one, whose "lr" may be changed before each step, to a number or a tensor () on the weights' device.
    state: for each weight its tensors, by name.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, **group):
        self.param_groups = [{"params": list(weights), "lr": lr, **group}]
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}

    def to_update(self) -> tuple[list[nn.Parameter], list[Tensor]]:
        """The weights that have a gradient, and their gradients, each in the memory layout of its weight."""
        weights = [weight for weight in self.param_groups[0]["params"] if weight.grad is not None]
        return weights, [laid_out_as(weight, weight.grad) for weight in weights]

    def zero_grad(self) -> None:
        """Let go of the gradients."""
        for weight in self.param_groups[0]["params"]:
            weight.grad = None

    def state_dict(self) -> dict[str, dict[int, dict[str, Tensor]]]:
        """The state, by the place of its weight; rates are the schedule's."""
        return {"state": dict(enumerate(self.state.values()))}

    def load_state_dict(self, state: dict) -> None:
        """Take over what `state_dict` gave, into the tensors that are there."""
        for own, given in zip(self.state.values(), state["state"].values(), strict=True):
            for name, tensor in own.items():
                tensor.copy_(given[name])


def laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the memory layout of its weight: fused kernels go through both as they lie, and do not check."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
