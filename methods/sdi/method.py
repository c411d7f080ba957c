"""FGSM-SDI, whose starts a generator learns to make."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from experiment.models.network import Network
from methods import Batch, Effort, Learner, Position
from methods.losses import relaxed_cross_entropy
from methods.sdi.generator import Generator
from methods.two_stage import TwoStage

WEIGHT_DECAY = 5e-4  # of the generator


class SDI(TwoStage):
    """Jia et al., 2022 (sample-dependent initialisation): one step from a start that a generator makes.

    Every `every` minibatches the generator is trained: to raise the loss after the step from its start.
    """

    ranges = {"label_weight": (0, 1), "every": (1, 100000), "generator_lr": (0, 10)}
    least_steps = 1
    smooths_labels = False
    stays_in_box = False  # nothing is cut to it

    label_weight: float
    every: int
    generator_lr: float

    def modules(self, network: Network) -> dict[str, tuple[nn.Module, torch.optim.Optimizer | None]]:
        source = self.threat.generator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch.initial_seed() if source is None else source.initial_seed())
            generator = Generator(network.std.numel(), self.threat.eps).to(network.std.device).eval()
        return {"generator": (generator, self.adam(generator.parameters(), network.std.device))}

    def adam(self, weights: Iterable[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
        fused = device.type in ("cpu", "cuda")  # counts its steps where the weights are, and waits for no value
        return torch.optim.Adam(weights, lr=self.generator_lr, weight_decay=WEIGHT_DECAY, fused=fused)

    def before_batch(self, learner: Learner, batch: Batch, position: Position) -> None:
        generator, optimizer = self.extra["generator"]
        if optimizer is None or position.minibatch % self.every:
            return
        signs = self.signs(learner, batch)
        generator.train()
        start = generator(batch.images, signs)
        moved = start + self.threat.eps * self.gradient(learner, batch, start.detach().requires_grad_()).sign()
        delta = torch.where(moved.abs() <= self.threat.eps, moved, self.threat.project(moved).detach())
        weights = list(generator.parameters())
        loss = self.relaxed(learner.craft(batch.images + delta), batch)
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = -gradient
        optimizer.step()
        optimizer.zero_grad()
        generator.eval()

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        generator, _ = self.extra["generator"]
        signs = self.signs(learner, batch)
        with torch.no_grad():
            delta = generator(batch.images, signs)
        delta.requires_grad_()
        for _ in range(effort.steps):
            gradient = self.gradient(learner, batch, delta)
            delta = self.threat.project(delta.detach() + effort.step_size * gradient.sign())
        return delta

    def loss(self, learner: Learner, batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor]:
        logits = learner(batch.images + delta)
        return self.relaxed(logits, batch), logits

    def signs(self, learner: Learner, batch: Batch) -> Tensor:
        return self.gradient(learner, batch, torch.zeros_like(batch.images).requires_grad_()).sign()

    def relaxed(self, logits: Tensor, batch: Batch) -> Tensor:
        return relaxed_cross_entropy(logits, batch.labels, self.label_weight)
