"""YOPO-m-n: you only propagate once."""

from methods import Batch, Effort, Learner, Method


class YOPO(Method):
    """Zhang et al., 2019: between m full passes, n cheap steps through the first layer alone.

    With f = g(f0(x)), a full pass gives the costate dL/df0 (the paper's -p), and the inner steps ascend on
    -H = <costate, f0(x + delta)>. Weight gradients of the m passes, and of -H at the new perturbation for the first
    layer, are summed; one update, its rate divided by m. `effort.steps` is m, the option `inner_steps` is n.
    """

    norms = ("linf", "l2")
    ranges = {"inner_steps": (1, 1000)}
    least_steps = 1
    stays_in_box = False  # the authors do not cut the noise to the box before the first full pass

    inner_steps: int
    divide_lr: bool

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        images, labels = batch.images, batch.labels
        delta = self.threat.noise(images)
        for _ in range(effort.steps):
            hidden = learner.first_layer(images + delta)
            logits = learner.rest(hidden)
            costate = learner.accumulate(self.cross_entropy(logits, labels), logits, hidden)
            for _ in range(self.inner_steps):
                minus_h = (learner.first_layer(self.threat.clip(images + delta)) * costate).sum()
                gradient = learner.input_gradient(minus_h, delta)
                delta = self.threat.ascend(images, delta, gradient, effort.step_size)
            learner.accumulate((learner.first_layer(self.threat.clip(images + delta)) * costate).sum())
        learner.update(lr_scale=1 / effort.steps if self.divide_lr else 1)
