"""The family of single steps whose crafting pass is trained on too (FGSM-PGI and those after it)."""

from torch import Tensor

from methods import Batch, Effort, Learner, Method


class Prior(Method):
    """One step from a start that earlier minibatches left; the update goes back through the crafting pass as well.

    With d0 the start and z0 = f(x + d0), d = box(clip(d0 + eps sign(grad_d0 crafting_loss(z0)))), z = f(x + d): the
    update minimises a loss of both z0 and z, through both. More steps than one go on from d in passes that only craft.
    A subclass says where the search starts, both losses, and what it keeps.
    """

    least_steps = 1
    reuses_crafting_graph = True
    smooths_labels = False
    stays_in_box = False  # the stored start is not cut to the box of the image that it meets

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        start = self.start(batch)
        before = learner(batch.images + start)
        gradient = learner.input_gradient(self.crafting_loss(before, batch), start, keep=True)
        delta = self.threat.ascend(batch.images, start, gradient, effort.step_size)
        for _ in range(effort.steps - 1):
            loss = self.crafting_loss(learner.craft(batch.images + delta), batch)
            further = learner.input_gradient(loss, delta)
            delta = self.threat.ascend(batch.images, delta, further, effort.step_size)
        loss, after = self.loss(learner, batch, start, before, delta)
        self.update(learner, loss, after, start)
        self.keep(batch, effort, start, gradient, delta)

    def start(self, batch: Batch) -> Tensor:
        """Where the search starts, (B, C, H, W), ready to be differentiated."""
        raise NotImplementedError

    def crafting_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """What the steps ascend."""
        raise NotImplementedError

    def loss(
        self, learner: Learner, batch: Batch, start: Tensor, before: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the update minimises, and the logits of the images with `delta`, whose pass is the last.

        before: logits of the images with `start`, whose graph is kept.
        """
        raise NotImplementedError

    def update(self, learner: Learner, loss: Tensor, after: Tensor, start: Tensor) -> None:
        """The weight update."""
        learner.descend(loss, after)

    def keep(self, batch: Batch, effort: Effort, start: Tensor, gradient: Tensor, delta: Tensor) -> None:
        """Leave what later minibatches start from. gradient: of the crafting loss at `start`."""
