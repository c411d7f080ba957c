"""The shape of methods whose update sees each image twice, as it is and attacked (TRADES, GAT and those after them)."""

from torch import Tensor

from methods import Batch, Learner
from methods.two_stage import TwoStage


class Paired(TwoStage):
    """Minimises a loss of the logits of the images and of those of the attacked images.

    They go through the network one after the other, so that each has batch statistics of its own, the attacked images
    last; the gradient goes back through both. A subclass writes `perturbation` and `pair_loss`.
    """

    published_batch_norm = "eval"

    def loss(self, learner: Learner, batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor]:
        clean = learner(batch.images)
        attacked = learner(batch.images + delta)
        return self.pair_loss(batch, clean, attacked), attacked

    def pair_loss(self, batch: Batch, clean: Tensor, attacked: Tensor) -> Tensor:
        """What the update minimises, a scalar, of two (B, classes) logits."""
        raise NotImplementedError
