"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from experiment.fields import Quantity
from training.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    momentum: Annotated[Quantity, Field(ge=0, lt=1, description="Of the gradients, in [0, 1).")] = 0.9
    weight_decay: Annotated[Quantity, Field(ge=0, description="Of every weight.")] = 0.0005

    def build(self, parameters: Iterable[nn.Parameter], lr: float) -> Any:
        from training import sgd

        return sgd.SGD(parameters, lr=lr, momentum=self.momentum, weight_decay=self.weight_decay)
