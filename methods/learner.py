"""What a method asks of the learner: the network, and the updates of its weights."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, overload

from torch import Tensor


class Average(Protocol):
    """A network whose weights follow those of the trained one, and which is evaluated (training/averaging.py)."""

    def update(self, decay: Tensor | float, when: Tensor | None = None) -> None:
        """Keep the share `decay` of it, a number or a tensor (), and less in its first updates; the rest is new.

        when: a tensor () of bool; where it is false all of it is kept, and the update is none of the first.
        """


class Learner(Protocol):
    """The network that is trained, with its optimizer, precision and batch norm (training/learner.py).

    images: (N, C, H, W) in [0, 1]; logits: (N, classes), float32; loss: a scalar, the mean over the minibatch.
    """

    average: "Average"  # of the weights, for a method that says `averages_weights`

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images, in a pass that updates weights."""

    def craft(self, images: Tensor) -> Tensor:
        """Logits in a pass that only looks for a perturbation: batch norm's mode is the protocol's for crafting."""

    def first_layer(self, images: Tensor) -> Tensor:
        """Output of the network's first layer; `rest` goes on from it."""

    def rest(self, hidden: Tensor) -> Tensor:
        """Logits from the first layer's output."""

    def look(self, images: Tensor) -> Tensor:
        """Logits in a pass with batch norm in evaluation mode, whatever the protocol says."""

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits as from a call, and the features (N, D) that the last linear layer makes them of."""

    def input_gradient(self, loss: Tensor, delta: Tensor, *, keep: bool = False, create_graph: bool = False) -> Tensor:
        """dloss/ddelta, for the perturbation alone: no weight gradients, a third of the cost saved.

        keep: the pass is gone back through once more; create_graph: the result can itself be differentiated.
        """

    def weight_gradients(self, loss: Tensor) -> list[Tensor]:
        """dloss/dweights, returned instead of accumulated, in the order of the network's parameters."""

    def moved(self, direction: Sequence[Tensor], scale: float) -> AbstractContextManager[None]:
        """The weights `scale` times `direction` further while it lasts, and as they were to the bit afterwards."""

    def try_update(self, loss: Tensor, delta: Tensor) -> tuple[Tensor, list[Tensor]]:
        """dloss/ddelta, and what an update by the same backward would add to each weight, in their order.

        Weights and optimizer are as before afterwards; it is no update, and is not counted as one.
        """

    def move(self, direction: Sequence[Tensor], shares: Sequence[float]) -> None:
        """Move each weight for good along its direction, by that share of its norm (0: it stays), in their order.

        Only for methods whose authors change weights beside the optimizer, whose momentum does not see it.
        """

    def minimise(self, objective: Callable[[], tuple[Tensor, Tensor]], steps: int = 1) -> None:
        """One weight update on what `objective` makes of the network as it is then: the loss, and its pass's logits.

        Where the protocol perturbs weights, it is asked twice: at the weights, and at the perturbed ones.
        steps: of the optimizer on that one gradient, each an update at a rate of its own.
        """

    @overload
    def descend(self, loss: Tensor, logits: Tensor) -> None: ...
    @overload
    def descend(self, loss: Tensor, logits: Tensor, delta: Tensor) -> Tensor:
        """One weight update; returns dloss/ddelta, of the same backward, where `delta` is given."""

    @overload
    def accumulate(self, loss: Tensor, logits: Tensor | None = None) -> None: ...
    @overload
    def accumulate(self, loss: Tensor, logits: Tensor | None, wrt: Tensor) -> Tensor:
        """The first half of `descend`: adds dloss/dweights to the weights' gradients; returns dloss/dwrt.

        logits: of this pass, for the training accuracy; None where it went through the first layer alone.
        """

    def update(self, lr_scale: float = 1) -> None:
        """The second half: one step of the optimizer, at `lr_scale` times the scheduled rate."""
