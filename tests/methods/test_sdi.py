"""FGSM-SDI against a second, naive implementation: the generator, its batch norm and its Adam are written out here."""

import pytest
import torch
import torch.nn.functional as F
from reference import (
    EPS,
    SEED,
    Reference,
    assert_agrees,
    assert_same_networks,
    clip_to_ball,
    new_network,
    position,
    relaxed,
    trained,
)

from experiment.effort import Effort
from experiment.threats.linf import Linf
from methods import load

pytestmark = pytest.mark.usefixtures("float64")
SDI = {"label_weight": 0.5, "every": 20, "generator_lr": 0.001}


def generator_of(**options):
    """A generator as a run begins with, of the suite."""
    method = load("sdi")(Linf(EPS, torch.Generator().manual_seed(SEED)), **(SDI | options))
    return method.modules(new_network())["generator"][0]


class Generator:
    """One that begins with the same weights; they, Adam's averages and batch norm's are lists."""

    def __init__(self):
        network = generator_of()
        names = ["head.0.weight", "head.1.weight", "head.1.bias", "block.1.weight", "block.2.weight", "block.2.bias"]
        names += ["block.4.weight", "block.5.weight", "block.5.bias", "tail.1.weight", "tail.1.bias"]
        assert set(names) == {name for name, _ in network.named_parameters()}
        self.weights = [network.get_parameter(name).detach().clone().requires_grad_() for name in names]
        self.first = [torch.zeros_like(weight) for weight in self.weights]
        self.second = [torch.zeros_like(weight) for weight in self.weights]
        self.steps = 0
        self.running = [[torch.zeros(64), torch.ones(64)] for _ in range(4)]

    def normalised(self, values, layer, training, eps=1e-5):
        mean, variance = self.running[layer]
        if training:
            mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)
            unbiased = values.var((0, 2, 3), unbiased=True).detach()
            before = self.running[layer]
            self.running[layer] = [0.9 * before[0] + 0.1 * mean.detach(), 0.9 * before[1] + 0.1 * unbiased]
        shape = (1, 64, 1, 1)
        return (values - mean.view(shape)) / (variance.view(shape) + eps).sqrt()

    def __call__(self, images, signs, training):
        first, scale, shift, slope, one, one_bias, other_slope, two, two_bias, last, last_bias = self.weights
        hidden = F.conv2d(torch.cat([images, signs], 1), first, padding=1)
        hidden = self.normalised(hidden, 0, training, eps=1e-3) * scale.view(1, 64, 1, 1) + shift.view(1, 64, 1, 1)
        hidden = hidden * (hidden > 0)
        inner = self.normalised(hidden, 1, training)
        inner = F.conv2d(torch.where(inner > 0, inner, slope * inner), one, one_bias, padding=1)
        inner = self.normalised(inner, 2, training)
        inner = F.conv2d(torch.where(inner > 0, inner, other_slope * inner), two, two_bias, padding=1)
        out = F.conv2d(self.normalised(hidden + inner, 3, training), last, last_bias, padding=1)
        return EPS * torch.tanh(out)

    def ascend(self, gradients, lr):
        """One step of Adam up the gradients, with weight decay in the gradient."""
        self.steps += 1
        with torch.no_grad():
            for i, (weight, up) in enumerate(zip(self.weights, gradients, strict=True)):
                down = -up + 5e-4 * weight
                self.first[i] = 0.9 * self.first[i] + 0.1 * down
                self.second[i] = 0.999 * self.second[i] + 0.001 * down**2
                average = self.first[i] / (1 - 0.9**self.steps)
                weight -= lr * average / ((self.second[i] / (1 - 0.999**self.steps)).sqrt() + 1e-8)


def sdi(steps, length, label_weight=0.5, every=20, generator_lr=0.001, batch_norm="train"):
    """Jia et al., 2022, as in FGSM_SDI.py and FGSM_SDI_loss.py."""
    reference, generator = Reference(), Generator()
    network = reference.network
    reference.generator = generator

    def sign(images, delta, labels):
        gradient = reference.gradients(images, delta, labels)
        reference.see("attack", gradient)
        return gradient.sign()

    def train_generator(images, labels):
        start = generator(images, sign(images, torch.zeros_like(images), labels), training=True)
        moved = start + EPS * sign(images, start.detach(), labels)
        delta = torch.where(moved > EPS, EPS, torch.where(moved < -EPS, -EPS, moved))
        generator.ascend(
            torch.autograd.grad(relaxed(network(images + delta), labels, label_weight), generator.weights), generator_lr
        )

    def train_minibatch(images, labels):
        network.train(batch_norm == "train")
        if position(reference.minibatch).minibatch % every == 0:
            train_generator(images, labels)
        delta = generator(images, sign(images, torch.zeros_like(images), labels), training=False).detach()
        for _ in range(steps):
            delta = clip_to_ball(delta + length * sign(images, delta, labels))
        network.train()
        shown = (images + delta).requires_grad_()
        network.zero_grad()
        reference.logits = network(shown)
        reference.loss = relaxed(reference.logits, labels, label_weight)
        reference.loss.backward()
        reference.see("update", shown.grad)
        reference.note(labels)
        reference.update()

    return reference.train(train_minibatch)


CASES = {
    "published": (1, EPS, {}),
    "2 steps": (2, 0.5 * EPS, {}),
    "a generator that learns from every minibatch, faster": (1, 0.5 * EPS, {"every": 1, "generator_lr": 0.01}),
    "other targets": (1, EPS, {"label_weight": 0.8}),
}


@pytest.mark.parametrize("magnitude", ["update", "attack"])
@pytest.mark.parametrize(("steps", "length", "options"), CASES.values(), ids=CASES)
def test_sdi_is_the_paper_s_algorithm(steps, length, options, magnitude):
    assert_agrees(sdi(steps, length, **options), "sdi", Effort(steps, length), magnitude, **(SDI | options))


def test_it_crafts_in_the_protocol_s_mode():
    reference = sdi(1, EPS, batch_norm="eval")
    assert_agrees(reference, "sdi", Effort(1, EPS), crafting_batch_norm="eval", **SDI)


def test_what_the_generator_learns_is_in_the_weights():
    learned, _ = trained("sdi", Effort(1, 0.5 * EPS), **(SDI | {"generator_lr": 0.1}))
    not_learned, _ = trained("sdi", Effort(1, 0.5 * EPS), **(SDI | {"generator_lr": 0.0}))
    with pytest.raises(AssertionError):
        assert_same_networks(learned, not_learned)


def test_runs_of_one_seed_begin_with_one_generator_and_leave_pytorch_s_numbers_alone():
    before = torch.get_rng_state()
    one, other = generator_of().state_dict(), generator_of().state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert torch.equal(torch.get_rng_state(), before)
