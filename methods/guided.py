"""The shape of GAT and of NuAT after it: clean accuracy, and outputs that the attack does not move."""

import torch
from torch import Tensor

from methods import Batch, Effort, Learner, Position
from methods.losses import nuclear_norm
from methods.paired import Paired
from methods.starts import corner


class Guided(Paired):
    """The update minimises CE(f(x), y) + lambda D(f(x), f(x + d)): labels reach the weights through clean images alone.

    The attack starts at a random corner of half the ball. It ascends the attacked images' cross entropy, to which every
    second minibatch adds lambda D from the clean outputs, so that the two kinds of attack take turns. A subclass says
    how far two outputs are apart, and what lambda is when.
    """

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        images = batch.images
        with torch.no_grad():
            clean = self.clean_logits(learner, images)
        delta = self.threat.box(images, corner(self.threat, images, self.threat.eps / 2))
        for step in range(effort.steps):
            attacked = learner.craft(images + delta)
            further = self.strength_in_attack(batch, step) * self.distance(clean, attacked)
            gradient = learner.input_gradient(self.cross_entropy(attacked, batch.labels) + further, delta)
            delta = self.threat.ascend(images, delta, gradient, effort.step_size)
        return delta

    def pair_loss(self, batch: Batch, clean: Tensor, attacked: Tensor) -> Tensor:
        further = batch.scalars["strength"] * self.distance(clean, attacked)
        return self.cross_entropy(clean, batch.labels) + further

    def schedule(self, position: Position) -> dict[str, float]:
        strength = self.strength(position)
        return {"strength": strength, "every_second": strength * (position.minibatch % 2)}

    def distance(self, clean: Tensor, attacked: Tensor) -> Tensor:
        """Of two outputs for the same images, as logits (B, classes); a scalar."""
        raise NotImplementedError

    def strength(self, position: Position) -> float:
        """Lambda in this minibatch's update."""
        raise NotImplementedError

    def clean_logits(self, learner: Learner, images: Tensor) -> Tensor:
        """What the attack's distance is from."""
        return learner(images)

    def strength_in_attack(self, batch: Batch, step: int) -> Tensor | int:
        """Lambda in this minibatch's attack step, counted from 0."""
        return batch.scalars["every_second"]


class NuclearNorm(Guided):
    """D is the nuclear norm of the minibatch's matrix of logit differences, and lambda grows from 0 with the epoch."""

    ranges = {"weight": (0, 1000), "ramp": (0, 1), "divisor": (1, 10000)}

    weight: float
    ramp: float
    divisor: float

    def distance(self, clean: Tensor, attacked: Tensor) -> Tensor:
        return nuclear_norm(clean - attacked) / self.divisor

    def strength(self, position: Position) -> float:
        grown = position.epoch / (self.ramp * position.epochs) if self.ramp else 1
        return self.weight * min(grown, 1)
