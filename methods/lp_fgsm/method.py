"""lp-FGSM adversarial training."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class LpFGSM(TwoStage):
    """Mehouachi and Jabari, 2025: one step from the image, the steepest among those of l_p norm eps.

    It lies between the gradient at length eps (p = 2) and FGSM (p to infinity).
    """

    ranges = {"p": (2, 1000)}
    stays_in_box = False  # the authors do not cut the attacked image

    p: float

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        delta = torch.zeros_like(batch.images).requires_grad_()
        for _ in range(effort.steps):
            gradient = self.gradient(learner, batch, delta)
            delta = self.threat.project(delta + effort.step_size * self.steepest(gradient))
        return delta

    def steepest(self, gradient: Tensor) -> Tensor:
        """Of each image's perturbations of l_p norm 1 the one along which the loss rises fastest; 0 where it is flat.

        sign(g) (|g| / ||g||_q)^(q - 1) with 1/p + 1/q = 1 (Hoelder's equality).
        """
        q = self.p / (self.p - 1)
        size = gradient.abs()
        # In units of its largest value: powers of tiny gradients would be 0.
        size = size / size.amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
        norm = size.pow(q).sum((1, 2, 3), keepdim=True).clamp_min(1).pow(1 / q)
        return gradient.sign() * (size / norm).pow(q - 1)
