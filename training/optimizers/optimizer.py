"""What every optimizer's parameters make: an object that training can step, save and go on from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiment.plugins import Plugin

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Optimizer(Plugin, ABC):
    """How gradients become updates of the weights."""

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter], lr: float) -> Any:
        """What updates the weights, as torch.optim.Optimizer: param_groups, state, step, zero_grad, state_dict.

        Its groups' "lr" may be set before each step to a number or a tensor () on the weights' device.
        """
