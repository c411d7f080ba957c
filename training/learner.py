"""The learner: the network as a method sees it, with its optimizer, its precision and the count of what it spends."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from training.averaging import WeightAverage
from training.compression import compress
from training.counts import Spent, count_passes
from training.optimizing import InPlace


class Learner:
    """The network, trained by an optimizer, handed to `Method.train_batch`.

    network: experiment.models Network on its device.
    learning_rate: called with the number of updates already made in this minibatch; gives the rate of the next one.
    magnitude: whose gradient M is taken from: "update", the backward that updates weights; "attack", the last one
        that made a perturbation; None, no magnitude is computed.
    crafting_batch_norm: "train" or "eval", the mode of batch norm in `craft`.
    weight_perturbation: how far each weight is moved, in shares of its tensor's norm, before `minimise` updates it
        (adversarial weight perturbation, Wu et al., 2020).
    average: of the network's weights, where one is evaluated.
    gradient_bits: of each entry of a gradient, before the optimizer sees it, rounded with numbers of `generator`; None
        for all.
    bf16: run the network under bfloat16 autocast (weights, losses and gradients of weights stay float32).
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: InPlace | torch.optim.Optimizer,
        *,
        magnitude=None,
        crafting_batch_norm="train",
        weight_perturbation=0.0,
        average: WeightAverage | None = None,
        gradient_bits: int | None = None,
        generator: torch.Generator | None = None,
        bf16=False,
    ):
        self.network = network
        self.optimizer = optimizer
        self.average = average
        self._gradient_bits, self._generator = gradient_bits, generator
        self.spent = Spent()
        count_passes(network, self.spent)
        self.last_rate = 0.0  # of the last update
        self._parameters = list(network.parameters())
        self._first_parameters = list(network.first_layer.parameters())
        self._batch_norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._magnitude_of = magnitude
        self._crafting_batch_norm = crafting_batch_norm
        self._weight_perturbation = weight_perturbation
        self._bf16 = bf16
        self._input: Tensor | None = None  # of the last forward: what the magnitude's gradient is taken for
        self._partial = False  # whether the last forward went through the first layer only

    def begin_batch(
        self,
        labels: Tensor,
        learning_rate,
        rates: Sequence[Tensor] | None = None,
        momenta: Sequence[Tensor] | None = None,
    ) -> None:
        """Start a minibatch with `labels` (N,); `learning_rate` maps updates made in it to the next one's rate.

        rates: the same as tensors () on the device, one an update, for the optimizer to read when it gets there.
        momenta: such tensors for its momentum, where that changes.
        """
        self._labels, self._learning_rate, self._rates, self._momenta = labels, learning_rate, rates, momenta
        self._updates_in_batch = 0
        self._crafted = False  # whether a backward made a perturbation and nothing else
        self.forget()

    def forget(self) -> None:
        """Let go of the minibatch's tensors, so that their memory is the next one's."""
        self._input = self._loss = self._logits = self._gradient = None

    # -- what methods call ------------------------------------------------------------------------------------------

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W) in [0, 1], in a pass that updates weights."""
        return self.rest(self.first_layer(images))

    def craft(self, images: Tensor) -> Tensor:
        """Logits in a pass that only looks for a perturbation."""
        with self._crafting_mode():
            return self(images)

    def first_layer(self, images: Tensor) -> Tensor:
        """Output of the network's first layer; a backward that starts from it alone is a partial pass."""
        if self._magnitude_of and not images.requires_grad:
            images = images.detach().requires_grad_()
        self._input, self._partial = images, True
        with self._autocast():
            return self.network.first_layer(images)

    def rest(self, hidden: Tensor) -> Tensor:
        """Logits (N, classes) from the first layer's output."""
        self._partial = False
        with self._autocast():
            logits = self.network.rest(hidden)
        return logits.float() if self._bf16 else logits

    def look(self, images: Tensor) -> Tensor:
        """Logits in a pass with batch norm in evaluation mode."""
        with self._evaluating():
            return self(images)

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) as from a call, and the penultimate features (N, D)."""
        hidden = self.first_layer(images)
        self._partial = False
        with self._autocast():
            features = self.network.features(hidden)
            logits = self.network.classifier(features)
        return (logits.float(), features.float()) if self._bf16 else (logits, features)

    def input_gradient(self, loss: Tensor, delta: Tensor, *, keep: bool = False, create_graph: bool = False) -> Tensor:
        """dloss/ddelta, and no weight gradients: a third of the cost saved."""
        (gradient,) = self.backward(loss, [delta], keep, create_graph)
        if self._magnitude_of == "attack" and not self._partial and not create_graph:
            self._gradient, self._crafted = gradient, True  # a penalty's gradient crafts nothing
        return gradient

    def minimise(self, objective: Callable[[], tuple[Tensor, Tensor]], steps: int = 1) -> None:
        """Update on the loss and logits that `objective` makes, of weights moved where the protocol says."""
        moves = self._worst_direction(objective) if self._weight_perturbation else []
        for weight, move in moves:
            weight.data.add_(move)
        self.accumulate(*objective())
        self.update(steps=steps)
        for weight, move in moves:
            weight.data.sub_(move)

    def descend(self, loss: Tensor, logits: Tensor, delta: Tensor | None = None) -> Tensor | None:
        """One weight update. Returns dloss/ddelta, of the same backward, where `delta` is given."""
        gradient = self.accumulate(loss, logits, delta)
        self.update()
        return gradient

    def accumulate(self, loss: Tensor, logits: Tensor | None = None, wrt: Tensor | None = None) -> Tensor | None:
        """Add dloss/dweights to the weights' gradients; returns dloss/dwrt where `wrt` is given.

        logits: (N, classes) of this pass, for the training accuracy; None in a partial pass.
        """
        weights = self._first_parameters if self._partial else self._parameters
        measured = not self._partial and (
            self._magnitude_of == "update" or (self._magnitude_of == "attack" and wrt is not None and not self._crafted)
        )
        others = ([] if wrt is None else [wrt]) + ([self._input] if measured else [])
        gradients = self.backward(loss, weights + others)
        for weight, gradient in zip(weights, gradients, strict=False):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
        if logits is not None:
            self._loss, self._logits = loss.detach(), logits.detach()
        if measured:
            self._gradient = gradients[-1]
        return None if wrt is None else gradients[len(weights)]

    def update(self, lr_scale: float = 1, steps: int = 1) -> None:
        """Steps of the optimizer with the accumulated gradients, each at `lr_scale` times its scheduled rate."""
        self._compress()
        for _ in range(steps):
            self.last_rate = self._step(lr_scale)
            self._updates_in_batch += 1
            self.spent.updates += 1
        self.optimizer.zero_grad()

    def try_update(self, loss: Tensor, delta: Tensor) -> tuple[Tensor, list[Tensor]]:
        """dloss/ddelta, and what an update by the same backward would add to each weight; it is taken back."""
        *gradients, gradient = self.backward(loss, [*self._parameters, delta])
        if self._magnitude_of == "attack":
            self._gradient = gradient
        before = [weight.detach().clone() for weight in self._parameters]
        kept = {of: {name: value.clone() for name, value in own.items()} for of, own in self.optimizer.state.items()}
        for weight, of_weight in zip(self._parameters, gradients, strict=True):
            weight.grad = of_weight
        self._compress()
        self._step(lr_scale=1)
        self.optimizer.zero_grad()
        steps = [weight.detach() - old for weight, old in zip(self._parameters, before, strict=True)]
        with torch.no_grad():
            for weight, old in zip(self._parameters, before, strict=True):
                weight.copy_(old)
            for of, own in self.optimizer.state.items():
                for name, value in own.items():  # what PyTorch's own optimizers make in their first step begins at 0
                    value.copy_(kept[of][name]) if of in kept else value.zero_()
        return gradient, steps

    def move(self, direction: Sequence[Tensor], shares: Sequence[float]) -> None:
        """Move each weight for good along its direction, by that share of its norm."""
        with torch.no_grad():
            for weight, step in self._by_norm(direction, shares):
                weight.add_(step)

    def weight_gradients(self, loss: Tensor) -> list[Tensor]:
        """dloss/dweights, in the order of the network's parameters."""
        return list(self.backward(loss, self._parameters))

    @contextmanager
    def moved(self, direction: Sequence[Tensor], scale: float) -> Iterator[None]:
        """The weights `scale` times `direction` further while it lasts; in place, so that it can be recorded."""
        before = [weight.detach().clone() for weight in self._parameters]
        with torch.no_grad():
            for weight, step in zip(self._parameters, direction, strict=True):
                weight.add_(step, alpha=scale)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, kept in zip(self._parameters, before, strict=True):
                    weight.copy_(kept)

    def _worst_direction(self, objective: Callable[[], tuple[Tensor, Tensor]]) -> list[tuple[nn.Parameter, Tensor]]:
        """Up the loss's gradient, each weight tensor by its share of its norm; biases and batch norms stay.

        The pass leaves the running statistics of batch norm as they were.
        """
        buffers = list(self.network.buffers())
        before = [buffer.clone() for buffer in buffers]
        gradients = self.weight_gradients(objective()[0])
        for buffer, kept in zip(buffers, before, strict=True):
            buffer.copy_(kept)
        return self._by_norm(gradients, [self._weight_perturbation * (up.dim() > 1) for up in gradients])

    def _by_norm(self, direction: Sequence[Tensor], shares: Sequence[float]) -> list[tuple[nn.Parameter, Tensor]]:
        """The weights whose share is not 0, each with the step along its direction that is that share of its norm."""
        return [
            (weight, along * (share * weight.detach().norm() / (along.norm() + 1e-20)))
            for weight, along, share in zip(self._parameters, direction, shares, strict=True)
            if share
        ]

    def _step(self, lr_scale: float) -> float:
        """One step of the optimizer at `lr_scale` times the next update's rate, which is returned."""
        number = self._learning_rate(self._updates_in_batch) * lr_scale
        rate = number if self._rates is None else self._rates[self._updates_in_batch] * lr_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            if self._momenta is not None:
                group["momentum"] = self._momenta[self._updates_in_batch]
        self.optimizer.step()
        return number

    def _compress(self) -> None:
        """Round the accumulated gradients as the protocol says."""
        if self._gradient_bits is not None:
            compress(self._parameters, self._gradient_bits, self._generator)

    def backward(
        self, loss: Tensor, inputs: list[Tensor], keep: bool = False, create_graph: bool = False
    ) -> tuple[Tensor, ...]:
        """The gradients of `inputs`: every backward of a minibatch goes through here."""
        return torch.autograd.grad(loss, inputs, retain_graph=keep or create_graph, create_graph=create_graph)

    # -- what the trainer asks --------------------------------------------------------------------------------------

    def batch_statistics(self) -> Tensor:
        """Of the minibatch's last pass, on the device and without waiting for it, float64 (3,):

        summed loss, correctly classified adversarial images, and the gradient magnitude: the sum of
        |dL/d(normalised input)| with L the minibatch mean (reference: the M+ rule), 0 where none was measured.
        """
        count = len(self._labels)
        correct = (self._logits.argmax(1) == self._labels).sum()
        magnitude = torch.zeros((), device=correct.device)
        if self._gradient is not None:
            magnitude = (self._gradient.abs() * self.network.std).sum()
        return torch.stack([self._loss.double() * count, correct.double(), magnitude.double()])

    def _autocast(self):
        if not self._bf16:
            return nullcontext()
        # Without the cache of cast weights: a recording would hold the memory of one that a pass before it filled.
        return torch.autocast(self._parameters[0].device.type, dtype=torch.bfloat16, cache_enabled=False)

    @contextmanager
    def _crafting_mode(self):
        if self._crafting_batch_norm == "train":
            yield
            return
        with self._evaluating():
            yield

    @contextmanager
    def _evaluating(self):
        for layer in self._batch_norms:
            layer.eval()
        try:
            yield
        finally:
            for layer in self._batch_norms:
                layer.train()
