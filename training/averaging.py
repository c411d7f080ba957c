"""Weight averaging: a second network whose weights follow those of the one that is trained."""

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of a network's weights and of batch norm's running statistics.

    network: the average, in evaluation mode and without gradients; decay: the share of it that each update keeps, at
    most; warm_up: whether update t, from 0, keeps no more than (t + 1) / (t + 10) of it, without which an average
    with a decay of .9995 is for thousands of updates that of the initial weights.
    """

    def __init__(self, network: nn.Module, decay: float = 1.0, warm_up: bool = True):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._trained, self._decay, self._warm_up = network, decay, warm_up
        self._updates = torch.zeros((), device=next(network.parameters()).device)  # a recording counts on

    @torch.no_grad()
    def update(self, decay: Tensor | float | None = None, when: Tensor | None = None) -> None:
        """Follow the trained network by one update.

        decay: the share that is kept, a method's own; warmed up too. when: a tensor () of bool; where it is false the
        average stays, and the update is not counted.
        """
        kept = self._decay if decay is None else decay
        if not isinstance(kept, Tensor):
            kept = torch.full_like(self._updates, kept)  # made on the device: what is copied there is not recorded
        kept = kept.to(self._updates)
        if self._warm_up:
            kept = torch.minimum(kept, (self._updates + 1) / (self._updates + 10))
        if when is not None:
            kept = torch.where(when, kept, 1)
        now = self._trained.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(now[name], (1 - kept).to(average.dtype))
            else:
                average.copy_(now[name] if when is None else torch.where(when, now[name], average))
        self._updates += 1 if when is None else when

    @property
    def tensors(self) -> list[Tensor]:
        """All that an update changes."""
        return [*self.network.state_dict().values(), self._updates]

    def state_dict(self) -> dict:
        return {"network": self.network.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self._updates.copy_(state["updates"])
