"""FGSM-EP and FGSM-MEP, prior-guided initialisation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods import Batch, Effort, Learner, Position, Split, converge_smooth, stores
from methods.losses import relaxed_cross_entropy
from methods.prior import Prior
from methods.starts import corner


class PGI(Prior):
    """Jia et al., 2022: an image's search starts from what its last epoch left, as it is (EP) or by momentum (MEP).

    The update also keeps the logits after the step near those before it. `converge_smooth` is another paper's term.
    """

    ranges = {"decay": (0, 1), "label_weight": (0, 1), "consistency": (0, 1000), "reset": (1, 10000), "band": (0, 100)}
    choices = {"converge_smooth": ("none", "clean", "start")}

    momentum: bool
    decay: float
    label_weight: float
    consistency: float
    reset: int
    aligned: bool  # this suite: perturbations follow their images through crops and flips
    converge_smooth: str
    band: float

    def begin(self, split: Split) -> None:
        shape = stores.padded_shape(split.images, split.shape) if self.aligned else (split.images, *split.shape)
        for name in ("delta", "momentum") if self.momentum else ("delta",):
            self.state[name] = torch.zeros(shape, device=split.where)
        if self.converge_smooth != "none":
            self.state["clean"] = converge_smooth.begin(split.where)

    def begin_epoch(self, learner: Learner, position: Position) -> None:
        if position.epoch % self.reset == 0:
            self.state["delta"].copy_(corner(self.threat, self.state["delta"]))
            if self.momentum:
                self.state["momentum"].zero_()
        if self.converge_smooth != "none":
            converge_smooth.begin_epoch(self.state["clean"])

    def schedule(self, position: Position) -> dict[str, float]:
        return {} if self.converge_smooth == "none" else {"smooth": converge_smooth.holds(position)}

    def start(self, batch: Batch) -> Tensor:
        return self.read("delta", batch).requires_grad_()

    def crafting_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return relaxed_cross_entropy(logits, batch.labels, self.label_weight)

    def loss(
        self, learner: Learner, batch: Batch, start: Tensor, before: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        clean = learner(batch.images) if self.converge_smooth == "clean" else before
        after = learner(batch.images + delta)
        loss = self.crafting_loss(after, batch) + self.consistency * F.mse_loss(after, before)
        if self.converge_smooth != "none":
            loss = loss + converge_smooth.term(self.state["clean"], self.crafting_loss(clean, batch), batch, self.band)
        return loss, after

    def keep(self, batch: Batch, effort: Effort, start: Tensor, gradient: Tensor, delta: Tensor) -> None:
        if self.momentum:
            momentum = self.push(gradient) + self.decay * self.read("momentum", batch)
            self.write("momentum", batch, momentum)
            delta = self.threat.ascend(batch.images, start, momentum, effort.step_size)
        self.write("delta", batch, delta)

    def push(self, gradient: Tensor) -> Tensor:
        """What a minibatch adds to the momentum: the gradient of all its images together in the L1 norm of 1."""
        return gradient / gradient.abs().sum().clamp(min=torch.finfo(gradient.dtype).tiny)

    def read(self, name: str, batch: Batch) -> Tensor:
        return (stores.read_padded if self.aligned else stores.read)(self.state[name], batch)

    def write(self, name: str, batch: Batch, value: Tensor) -> None:
        (stores.write_padded if self.aligned else stores.write)(self.state[name], batch, value)
