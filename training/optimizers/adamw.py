"""Adam with decoupled weight decay."""

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
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    beta1: Annotated[Quantity, Field(ge=0, lt=1, description="Of the mean of gradients.")] = 0.9
    beta2: Annotated[Quantity, Field(ge=0, lt=1, description="Of the mean of their squares.")] = 0.999
    eps: Annotated[Quantity, Field(gt=0, description="Added to the root of the mean of squares.")] = 1e-8
    weight_decay: Annotated[Quantity, Field(ge=0, description="Of every weight, times the rate.")] = 0.01

    def build(self, parameters: Iterable[nn.Parameter], lr: float) -> Any:
        from training import adamw

        return adamw.AdamW(
            parameters, lr=lr, betas=(self.beta1, self.beta2), eps=self.eps, weight_decay=self.weight_decay
        )
