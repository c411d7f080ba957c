"""AAER adversarial training."""

from torch import Tensor

from methods import Batch, Effort, Learner
from methods.hosts import Hosted


class AAER(Hosted):
    """Lin et al., 2023: a single-step host whose update is pulled away from abnormal adversarial examples.

    Those are the images whose loss is lower after the step than at its start.

    host: whose perturbation it is, `fast` (the paper's RS-AAER) or `n_fgsm` (N-AAER).
    lambda1, lambda2, lambda3: weights of the regulariser, of the abnormal images' losses, and of their logits.
    ce_gradient: whether the weights learn from those losses; the authors' do not.
    """

    perturbs_weights = True
    choices = {"host": ("fast", "n_fgsm")}
    ranges = {"lambda1": (0, 100), "lambda2": (0, 100), "lambda3": (0, 100)}

    lambda1: float
    lambda2: float
    lambda3: float
    ce_gradient: bool

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        delta, at_start = self.start(batch.images), None
        for _ in range(effort.steps):
            logits = learner.craft(batch.images + delta)
            at_start = logits.detach() if at_start is None else at_start
            gradient = learner.input_gradient(self.cross_entropy(logits, batch.labels), delta)
            delta = self.step(batch.images, delta, gradient, effort.step_size)
        learner.minimise(lambda: self.loss(learner, batch, at_start, delta))

    def loss(self, learner: Learner, batch: Batch, at_start: Tensor | None, delta: Tensor) -> tuple[Tensor, Tensor]:
        logits = learner(batch.images + delta)
        losses = self.cross_entropy(logits, batch.labels, reduction="none")
        if at_start is None:
            return losses.mean(), logits
        return losses.mean() + self.lambda1 * self.regulariser(at_start, logits, batch.labels, losses), logits

    def regulariser(self, at_start: Tensor, logits: Tensor, labels: Tensor, losses: Tensor) -> Tensor:
        drop = self.cross_entropy(at_start, labels, reduction="none") - losses
        abnormal = (drop > 0).to(losses.dtype)
        moved = (logits - at_start).square().sum(1)
        further = mean_over(abnormal, moved) - mean_over(1 - abnormal, moved).detach()
        drop = drop if self.ce_gradient else drop.detach()
        value = self.lambda2 * mean_over(abnormal, drop) + self.lambda3 * further.relu()
        both = (1 - abnormal).amax()  # without an abnormal image the share below is 0, without a normal one this is
        return both * abnormal.mean() * value


def mean_over(group: Tensor, values: Tensor) -> Tensor:
    """The mean of values (B,) over the images whose `group` is 1; 0 where it is 1 of none."""
    return (group * values).sum() / group.sum().clamp_min(1)
