"""The bare loop: a method's forwards, backwards and updates with nothing around them, for `benchmarks.training`.

What PyTorch and the device need at least for the passes: no random start, no projection, no data, no statistics.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods import Batch
from training.learner import Learner


@dataclass(frozen=True)
class Backward:
    """One backward of a minibatch: what it differentiates, and whether an update of the weights follows it."""

    partial: bool  # through the first layer alone
    weights: bool
    images: bool
    update: bool


def backwards(method, learner: Learner, batch: Batch, effort) -> list[Backward]:
    """What `method` does with one minibatch: its backwards in order."""
    calls, backward = [], learner.backward

    def recorded(loss: Tensor, inputs: list[Tensor], *graph: bool):
        before = learner.spent.backwards
        gradients = backward(loss, inputs, *graph)
        weights = any(isinstance(tensor, nn.Parameter) for tensor in inputs)
        pixels = any(
            tensor.shape == batch.images.shape for tensor in inputs
        )  # the first layer's output comes along for free
        calls.append((learner.spent.backwards == before, weights, pixels, learner.spent.updates))
        return gradients

    learner.backward = recorded
    try:
        learner.begin_batch(batch.labels, lambda done: 0.0)
        method.train_batch(learner, batch, effort)
    finally:
        del learner.backward
    updates = [made for *_, made in calls[1:]] + [learner.spent.updates]
    return [Backward(*kind, update=after > before) for (*kind, before), after in zip(calls, updates, strict=True)]


class BareLoop:
    """Makes the passes of `calls` with `network`, on its device, and plain SGD with momentum, fused."""

    def __init__(self, network: nn.Module, calls: list[Backward], bf16: bool):
        self._network, self._calls, self._bf16 = network, calls, bf16
        self._optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, fused=True)
        self._weights = list(network.parameters())
        self._first_weights = list(network.first_layer.parameters())

    def train(self, images: Tensor, labels: Tensor, minibatches: int) -> None:
        """Train on the same images (N, C, H, W) in [0, 1] and labels (N,) so many times."""
        for _ in range(minibatches):
            for call in self._calls:
                self._pass(call, images.detach().requires_grad_(call.images), labels)

    def _pass(self, call: Backward, images: Tensor, labels: Tensor) -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            output = self._network.first_layer(images)
            if not call.partial:
                output = self._network.rest(output)
        loss = output.sum() if call.partial else F.cross_entropy(output.float(), labels)
        weights = (self._first_weights if call.partial else self._weights) if call.weights else []
        gradients = torch.autograd.grad(loss, weights + ([images] if call.images else []))
        for weight, gradient in zip(weights, gradients, strict=False):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
        if call.update:
            self._optimizer.step()
            self._optimizer.zero_grad()
