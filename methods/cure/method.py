"""CURE, curvature regularisation, as ELLE's authors compare with it."""

from torch import Tensor

from methods import Batch, Effort, Learner
from methods.local_linearity import LocalLinearity

BATCH = 128  # images in the authors' minibatches, with which their lambda goes


class CURE(LocalLinearity):
    """Moosavi-Dezfooli et al., 2019, as in Abad Rocamora et al., 2024: FGSM, and a gradient that it does not turn.

    The penalty is ||grad L(x) - grad L(x')||^2, with x' the attacked image; only the second is differentiated. The
    gradient at the image is the attack's. L is the mean loss of a minibatch of 128 images, as in the authors' code,
    whatever the minibatch's size.
    """

    ranges = {"weight": (0, 1000000)}
    reuses_crafting_graph = True  # its gradient: in the penalty it is held against one of batch norm that trains

    double_step: bool
    adaptive: bool

    def prepare(self, learner: Learner, batch: Batch, effort: Effort) -> tuple[Tensor, tuple[Tensor, ...]]:
        gradient = self.gradient_at_images(learner, batch)
        return self.perturbation(learner, batch, effort, gradient), (gradient,)

    def penalty(self, learner: Learner, batch: Batch, delta: Tensor, known: tuple[Tensor, ...]) -> Tensor:
        (gradient,) = known
        change = (self.gradient_at(learner, batch, delta) - gradient) * (len(batch) / BATCH)
        return change.square().sum((1, 2, 3)).mean()
