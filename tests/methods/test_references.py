"""The sources' methods against second, naive implementations of their algorithms, written here from the papers.

Both sides draw noise from generators of their own with the same seed. Minibatches, the third short as at the end of an
epoch, are in tests/methods/reference.py.
"""

import pytest
import torch
from reference import (
    BATCHES,
    EPS,
    Reference,
    assert_agrees,
    clip_to_ball,
    clip_to_box,
    cross_entropy,
    cut_to_box,
    in_box,
    rate,
)

from experiment.effort import Effort

pytestmark = pytest.mark.usefixtures("float64")


def pgd(steps, step_size, crafting_batch_norm="train"):
    """Madry et al., 2018, as in locuslab/robust_overfitting."""
    reference = Reference()

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images))
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            reference.observe(images + delta, labels, "attack")
            gradient = reference.gradients(images, delta, labels)
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def free(replays, step_size, carry=True):
    """Shafahi et al., 2019, as in ashafahi/free_adv_train: one buffer of perturbations for the whole run."""
    reference = Reference()
    buffer = torch.zeros(BATCHES[0], 3, 8, 8, dtype=torch.float64)

    def train_minibatch(images, labels):
        if not carry:
            buffer.zero_()
        count = len(images)
        for _ in range(replays):
            reference.observe(cut_to_box(images + buffer[:count]), labels, "update", "attack")
            gradient = reference.gradients(images, buffer[:count], labels, cut=True)
            reference.note(labels)
            buffer[:count] = clip_to_ball(buffer[:count] + step_size * gradient.sign())
            reference.update()
        del reference.statistics[-replays:-1]

    return reference.train(train_minibatch)


def fast(steps, step_size, start="random", crafting_batch_norm="train"):
    """Wong et al., 2020, as in locuslab/fast_adversarial; theirs is one step."""
    reference = Reference()
    previous = torch.zeros(BATCHES[0], 3, 8, 8, dtype=torch.float64)

    def train_minibatch(images, labels):
        delta = {
            "random": lambda: reference.uniform_noise(images),
            "zero": lambda: torch.zeros_like(images),
            "previous": lambda: previous[: len(images)].clone(),
        }[start]()
        delta = clip_to_box(images, delta)
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            reference.observe(images + delta, labels, "attack")
            gradient = reference.gradients(images, delta, labels)
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
        previous[: len(images)] = delta
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def n_fgsm(steps, step_size, noise, crafting_batch_norm="train"):
    """De Jorge et al., 2022, as in pdejorge/N-FGSM; theirs is one step."""
    reference = Reference()

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images, noise * EPS))
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            reference.observe(images + delta, labels, "attack")
            gradient = reference.gradients(images, delta, labels)
            delta = clip_to_box(images, delta + step_size * gradient.sign())
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def yopo(m, step_size, inner_steps, divide_lr):
    """Zhang et al., 2019, as in a1600012888/YOPO-You-Only-Propagate-Once (pre-res18.yopo-5-3)."""
    reference = Reference()
    network = reference.network
    first = {f"first_layer.{name}" for name, _ in network.first_layer.named_parameters()}

    def train_minibatch(images, labels):
        eta = reference.uniform_noise(images)  # not cut to the box
        total = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
        for _ in range(m):
            reference.observe(images + eta, labels, "update", "attack")
            network.zero_grad()
            hidden = network.first_layer(images + eta)
            hidden.retain_grad()
            reference.logits = network.rest(hidden)
            reference.loss = cross_entropy(reference.logits, labels)
            reference.loss.backward()
            for name, parameter in network.named_parameters():
                total[name] += parameter.grad
            p = -hidden.grad
            for _ in range(inner_steps):
                shown = cut_to_box(images + eta).requires_grad_()
                (gradient,) = torch.autograd.grad((network.first_layer(shown) * p).sum(), shown)
                gradient = gradient * in_box(images + eta)
                eta = clip_to_box(images, clip_to_ball(eta - step_size * gradient.sign()))
            network.zero_grad()
            (-(network.first_layer(cut_to_box(images + eta)) * p).sum()).backward()
            for name in first:
                total[name] += network.get_parameter(name).grad
        reference.note(labels)
        lr = rate(reference.minibatch, 0)
        reference.sgd(total, lr / m if divide_lr else lr)

    return reference.train(train_minibatch)


def deat(replays, step_size):
    """Wang et al., 2021, as in TrustAI/DEAT (CIFAR): noise anew for each minibatch, an update at every replay."""
    reference = Reference()

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images))
        for _ in range(replays):
            reference.observe(images + delta, labels, "update", "attack")
            gradient = reference.gradients(images, delta, labels)
            reference.note(labels)
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
            reference.update()
        del reference.statistics[-replays:-1]

    return reference.train(train_minibatch)


# -- the comparisons --------------------------------------------------------------------------------------------------

REFERENCES = {"pgd": pgd, "free": free, "fast": fast, "n_fgsm": n_fgsm, "yopo": yopo, "deat": deat}
CASES = {
    "pgd, 2 steps": ("pgd", Effort(2, 0.04), {}),
    "pgd, no step": ("pgd", Effort(0, 0.04), {}),
    "pgd, batch norm in evaluation mode": ("pgd", Effort(2, 0.04), {"crafting_batch_norm": "eval"}),
    "free": ("free", Effort(3, EPS), {"carry": True}),
    "free, one replay": ("free", Effort(1, EPS), {"carry": True}),
    "free, not carried": ("free", Effort(3, EPS), {"carry": False}),
    "fast from noise": ("fast", Effort(1, 1.25 * EPS), {"start": "random"}),
    "fast from zero": ("fast", Effort(1, 1.25 * EPS), {"start": "zero"}),
    "fast from the last perturbation": ("fast", Effort(1, 0.4 * EPS), {"start": "previous"}),
    "fast, no step": ("fast", Effort(0, 1.25 * EPS), {"start": "random"}),
    "fast, 2 steps, batch norm in evaluation mode": (
        "fast",
        Effort(2, 0.6 * EPS),
        {"start": "random", "crafting_batch_norm": "eval"},
    ),
    "n-fgsm": ("n_fgsm", Effort(1, EPS), {"noise": 2.0}),
    "n-fgsm, no step": ("n_fgsm", Effort(0, EPS), {"noise": 2.0}),
    "n-fgsm without noise": ("n_fgsm", Effort(1, EPS), {"noise": 0.0}),
    "n-fgsm, 2 steps, batch norm in evaluation mode": (
        "n_fgsm",
        Effort(2, 0.5 * EPS),
        {"noise": 2.0, "crafting_batch_norm": "eval"},
    ),
    "yopo-2-2": ("yopo", Effort(2, 0.03), {"inner_steps": 2, "divide_lr": True}),
    "yopo-3-2, rate not divided": ("yopo", Effort(3, 0.03), {"inner_steps": 2, "divide_lr": False}),
    "deat": ("deat", Effort(3, 1.25 * EPS), {}),
    "deat, one replay": ("deat", Effort(1, 1.25 * EPS), {}),
}
each_case = pytest.mark.parametrize(("method", "effort", "options"), CASES.values(), ids=CASES)


@pytest.mark.fault("version")
@each_case
def test_weights_and_batch_norm_statistics_are_those_of_the_paper_s_algorithm(method, effort, options):
    reference = REFERENCES[method](effort.steps, effort.step_size, **options)
    assert_agrees(reference, method, effort, **options)


@pytest.mark.parametrize("source", ["update", "attack"])
@each_case
def test_the_magnitude_is_the_sum_of_absolute_gradients_for_the_normalised_input(method, effort, options, source):
    reference = REFERENCES[method](effort.steps, effort.step_size, **options)
    assert_agrees(reference, method, effort, source, **options)  # to measure it changes nothing


def test_the_references_tell_the_variants_of_a_method_apart():
    variants = [
        (free(3, EPS), free(3, EPS, carry=False)),
        (yopo(2, 0.03, 2, divide_lr=True), yopo(2, 0.03, 2, divide_lr=False)),
        (pgd(2, 0.04), pgd(2, 0.04, "eval")),
        (fast(1, 0.4 * EPS, "previous"), fast(1, 0.4 * EPS, "zero")),
        (free(3, EPS, carry=False), deat(3, EPS)),
        (n_fgsm(1, EPS, 1.0), fast(1, EPS)),  # the projection
        (n_fgsm(1, EPS, 2.0), n_fgsm(1, EPS, 1.0)),
    ]
    for one, other in variants:
        pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
        assert max((a - b).abs().max().item() for a, b in pairs) > 1e-5
