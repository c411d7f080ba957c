"""Nuclear norm adversarial training in two steps."""

from torch import Tensor

from methods import Batch, Learner
from methods.guided import NuclearNorm


class NuAT2(NuclearNorm):
    """Sriramanan et al., 2021: NuAT with two steps of eps, of which the first ascends the nuclear norm as well.

    It does so in every minibatch, and from clean logits of a pass that only crafts.
    """

    def clean_logits(self, learner: Learner, images: Tensor) -> Tensor:
        return learner.craft(images)

    def strength_in_attack(self, batch: Batch, step: int) -> Tensor | int:
        return batch.scalars["strength"] if step % 2 == 0 else 0
