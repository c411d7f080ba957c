"""DAT, in one process."""

from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class DAT(TwoStage):
    """Zhang et al., 2022 (distributed adversarial training): fit the images and the attacked images alike.

    The variant `fgsm` takes its step from an image that is cut to the box, and fits the attacked images alone.
    """

    choices = {"variant": ("pgd", "fgsm")}
    published_batch_norm = "eval"  # of the variant pgd
    stays_in_box = False  # nor is the start cut to it, which only pgd shows the network

    variant: str

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        start = self.threat.noise(batch.images)
        if effort.steps == 0:
            return self.threat.box(batch.images, start)
        if self.variant == "pgd":
            return self.ascent(learner, batch, start, effort)
        return self.ascent_of_cut_images(learner, batch, start, effort)

    def ascent_of_cut_images(self, learner: Learner, batch: Batch, delta: Tensor, effort: Effort) -> Tensor:
        """`ascent`, by gradients that are zero where an image is cut."""
        for _ in range(effort.steps):
            logits = learner.craft(self.threat.clip(batch.images + delta))
            gradient = learner.input_gradient(self.cross_entropy(logits, batch.labels), delta)
            delta = self.threat.ascend(batch.images, delta, gradient, effort.step_size)
        return delta

    def loss(self, learner: Learner, batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor]:
        if self.variant == "fgsm":
            return super().loss(learner, batch, delta)
        clean = self.cross_entropy(learner(batch.images), batch.labels)
        attacked, logits = super().loss(learner, batch, delta)
        return clean + attacked, logits
