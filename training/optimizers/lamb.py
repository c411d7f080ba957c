"""LAMB: Adam's steps, each layer's as long as a share of its weights."""

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
class LAMB(Optimizer):
    """Adam's steps, each layer's as long as a share of its weights, for large minibatches (You et al., 2020)."""

    beta1: Annotated[Quantity, Field(ge=0, lt=1, description="Of the mean of gradients.")] = 0.9
    beta2: Annotated[Quantity, Field(ge=0, lt=1, description="Of the mean of their squares.")] = 0.999
    eps: Annotated[Quantity, Field(gt=0, description="Added to the root of the mean of squares.")] = 1e-6
    weight_decay: Annotated[Quantity, Field(ge=0, description="Of every weight, inside the step; DAT's.")] = 1e-4

    def build(self, parameters: Iterable[nn.Parameter], lr: float) -> Any:
        from training import lamb

        return lamb.LAMB(
            parameters, lr=lr, betas=(self.beta1, self.beta2), eps=self.eps, weight_decay=self.weight_decay
        )
