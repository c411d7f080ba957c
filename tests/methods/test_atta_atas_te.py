"""ATTA, ATAS and TE against second, naive implementations, written here from the papers' code.

A store of perturbations is followed by slicing: `crop` and `paste` know nothing of methods/stores.py.
"""

import math

import pytest
import torch
from reference import (
    EPOCHS,
    EPS,
    IMAGES,
    Reference,
    assert_agrees,
    assert_same_networks,
    clip_to_ball,
    clip_to_box,
    cross_entropy,
    minibatches,
    places,
    position,
    softmax,
    trained,
)

import methods
from experiment.effort import Effort
from experiment.threats.linf import Linf
from methods import Position, Split

pytestmark = pytest.mark.usefixtures("float64")


def crop(store, minibatch):
    """Of a store (images, 3, 16, 16), what lies where the minibatch's crops of 8x8 pixels do, mirrored as they are."""
    found = []
    for row, top, left, flip in zip(*map(torch.Tensor.tolist, rows_of(minibatch)), strict=True):
        window = store[row, :, top : top + 8, left : left + 8]
        found.append(window.flip(2) if flip else window)
    return torch.stack(found)


def paste(store, minibatch, value):
    for one, row, top, left, flip in zip(value, *map(torch.Tensor.tolist, rows_of(minibatch)), strict=True):
        store[row, :, top : top + 8, left : left + 8] = one.flip(2) if flip else one


def rows_of(minibatch):
    index, shifts, flips = places(minibatch)
    return index, shifts[0], shifts[1], flips


def epoch_begins(minibatch):
    """Counted from 1, as in the authors' loops; None where the minibatch is not the first of its epoch."""
    place = position(minibatch)
    return place.epoch + 1 if place.minibatch == 0 else None


@pytest.fixture
def inside_the_box(monkeypatch):
    """Images that no perturbation takes out of the box, so that it does not matter who cuts to it, and when."""
    inside = [(EPS + (1 - 2 * EPS) * images, labels) for images, labels in minibatches()]
    monkeypatch.setattr("reference.minibatches", lambda: inside)


# -- ATTA -------------------------------------------------------------------------------------------------------------


def atta(steps, step_size, reset_every=10, crafting_batch_norm="eval"):
    """Zheng et al., 2020, as in hzzheng93/ATTA, with the perturbation kept in place of the perturbed image."""
    reference = Reference()
    store = torch.zeros(IMAGES, 3, 16, 16)

    def train_minibatch(images, labels):
        epoch = epoch_begins(reference.minibatch)
        if epoch and (epoch == 1 or epoch % reset_every == 0):
            store.copy_(torch.empty_like(store).normal_(0, 0.001, generator=reference.noise_generator))
        delta = crop(store, reference.minibatch)
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            reference.observe(images + delta, labels, "attack")
            gradient = reference.gradients(images, delta, labels)
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
        paste(store, reference.minibatch, delta)
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


@pytest.mark.parametrize("magnitude", [None, "update", "attack"])
@pytest.mark.parametrize(
    ("effort", "options"),
    [
        (Effort(1, 0.484 * EPS), {"reset_every": 10, "crafting_batch_norm": "eval"}),
        (Effort(3, 0.323 * EPS), {"reset_every": 2, "crafting_batch_norm": "eval"}),
        (Effort(1, 0.484 * EPS), {"reset_every": 10, "crafting_batch_norm": "train"}),
        (Effort(0, 0.484 * EPS), {"reset_every": 10, "crafting_batch_norm": "eval"}),
    ],
)
def test_atta(effort, options, magnitude):
    assert_agrees(atta(effort.steps, effort.step_size, **options), "atta", effort, magnitude, **options)


def test_perturbations_are_carried_and_start_anew():
    carried, anew = atta(1, 0.484 * EPS), atta(1, 0.484 * EPS, reset_every=2)
    assert carried.statistics[:2] == anew.statistics[:2]
    assert carried.statistics[2] != anew.statistics[2]


# -- ATAS -------------------------------------------------------------------------------------------------------------


def atas(steps, step_size, reset_every=10, warmup_epochs=0, c=0.01, beta=0.5, crafting_batch_norm="eval", epochs=4):
    """Huang et al., 2023, as in HuangZhiChao95/ATAS, image by image; of more steps than one each is as theirs."""
    reference = Reference()
    store, h = torch.zeros(IMAGES, 3, 16, 16), [0.0] * IMAGES
    steps_taken = reference.steps_taken = []

    def step_of(gradient, row, epoch, batch):
        if epoch <= warmup_epochs:
            return step_size
        squares = sum((value * batch / 128) ** 2 for value in gradient.flatten().tolist())
        h[row] = beta * h[row] + (1 - beta) * squares
        return min(max(2 * step_size / (1 + h[row] ** 0.5 / c), step_size / 2), 1.75 * step_size)

    def train_minibatch(images, labels):
        epoch = epoch_begins(reference.minibatch)
        if epoch and (epoch == 1 or epoch % reset_every == 0) and epoch != epochs:
            store.copy_(reference.uniform_noise(store))
        epoch = position(reference.minibatch).epoch + 1
        delta = clip_to_box(images, crop(store, reference.minibatch))
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            reference.observe(images + delta, labels, "attack")
            gradient = reference.gradients(images, delta, labels)
            rows = rows_of(reference.minibatch)[0].tolist()
            lengths = [step_of(one, row, epoch, len(images)) for one, row in zip(gradient, rows, strict=True)]
            steps_taken.append(lengths)
            moved = [one + length * up.sign() for one, length, up in zip(delta, lengths, gradient, strict=True)]
            delta = clip_to_box(images, clip_to_ball(torch.stack(moved)))
        paste(store, reference.minibatch, delta)
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


ATAS = {"reset_every": 10, "warmup_epochs": 0, "c": 0.01, "beta": 0.5, "crafting_batch_norm": "eval"}


@pytest.mark.parametrize("magnitude", [None, "update", "attack"])
@pytest.mark.parametrize(
    ("effort", "options"),
    [
        (Effort(1, EPS), {"warmup_epochs": 1, "c": 0.001}),
        (Effort(1, EPS), {"warmup_epochs": 0, "c": 0.0003, "reset_every": 2}),
        (Effort(2, 0.5 * EPS), {"warmup_epochs": 0, "c": 0.001, "beta": 0.2}),
        (Effort(1, EPS), {"warmup_epochs": 0, "c": 0.01, "crafting_batch_norm": "train"}),
    ],
)
def test_atas(effort, options, magnitude):
    options = ATAS | options
    expected = atas(effort.steps, effort.step_size, **options)
    assert_agrees(expected, "atas", effort, magnitude, **options)
    lengths = {round(length / effort.step_size, 6) for taken in expected.steps_taken for length in taken}
    assert len(lengths) > 5  # steps are not all at a bound


def test_atas_in_its_warm_up_is_atta_with_one_step_of_eps_from_uniform_noise(inside_the_box, monkeypatch):
    found, _ = trained("atas", Effort(1, EPS), **ATAS | {"warmup_epochs": 4})
    monkeypatch.setattr(
        torch.Tensor, "normal_", lambda store, *_, generator: store.uniform_(-EPS, EPS, generator=generator)
    )
    expected, _ = trained("atta", Effort(1, EPS), crafting_batch_norm="eval", reset_every=10)
    assert_same_networks(found, expected)


@pytest.mark.parametrize(("epochs", "resets"), [(20, [1, 10]), (21, [1, 10, 20])])
def test_atas_draws_perturbations_anew_before_epochs_divisible_by_ten_but_the_last(epochs, resets):
    method = methods.load("atas")(Linf(EPS), reset_every=10, warmup_epochs=5, c=0.01, beta=0.5)
    method.begin(Split(2, (3, 8, 8), 10, torch.device("cpu")))
    seen = []
    for epoch in range(1, epochs + 1):
        before = method.state["delta"].clone()
        method.begin_epoch(None, Position(epoch - 1, epochs, 0, 2))
        seen += [epoch] * (not torch.equal(before, method.state["delta"]))
    assert seen == resets


@pytest.mark.parametrize(
    ("method", "options"),
    [("atta", {"reset_every": 10}), ("atas", {"reset_every": 10, "warmup_epochs": 0, "c": 0.001, "beta": 0.5})],
)
def test_the_order_of_the_images_in_a_minibatch_does_not_matter(method, options, monkeypatch):
    expected, _ = trained(method, Effort(2, 0.5 * EPS), crafting_batch_norm="eval", **options)
    turned = [(images.flip(0), labels.flip(0)) for images, labels in minibatches()]
    monkeypatch.setattr("reference.minibatches", lambda: turned)
    monkeypatch.setattr("reference.places", lambda minibatch: [where.flip(-1) for where in places(minibatch)])
    found, _ = trained(method, Effort(2, 0.5 * EPS), crafting_batch_norm="eval", **options)
    assert_same_networks(found, expected)


# -- TE ---------------------------------------------------------------------------------------------------------------


def te(steps, step_size, host, weight, momentum, start, full, beta, crafting_batch_norm="eval"):
    """Dong et al., 2022, as in dongyp13/memorization-AT: PGD_TE and TRADES_TE of its loss.py."""
    reference = Reference()
    network = reference.network
    averages = {row: [0.0] * 10 for row in range(IMAGES)}

    def distance(logits, rows):
        total = 0
        for row, probabilities in zip(rows, softmax(logits), strict=True):
            target = [average / sum(averages[row]) for average in averages[row]]
            total = total + sum((p - t) ** 2 for p, t in zip(probabilities, target, strict=True))
        return total / len(rows) / 10

    def divergence(clean, attacked):
        return (softmax(clean) * (softmax(clean).log() - softmax(attacked).log())).sum() / len(clean)

    def weight_in(epoch):
        if epoch >= full * EPOCHS:
            return weight
        phase = 1 - (epoch - start * EPOCHS) / (full * EPOCHS - start * EPOCHS)
        return weight * math.exp(-5 * phase * phase)

    def train_minibatch(images, labels):
        epoch, rows = position(reference.minibatch).epoch + 1, rows_of(reference.minibatch)[0].tolist()
        begun = epoch >= start * EPOCHS
        network.eval()
        clean = network(images).detach()
        if begun:
            for row, probabilities in zip(rows, softmax(clean).tolist(), strict=True):
                kept = averages[row]
                averages[row] = [momentum * k + (1 - momentum) * p for k, p in zip(kept, probabilities, strict=True)]

        def term(logits):
            return weight_in(epoch) * distance(logits, rows) if begun else 0

        network.train(crafting_batch_norm == "train")
        if host == "pgd":
            attacked = images + reference.uniform_noise(images)
        else:
            attacked = images + torch.empty_like(images).normal_(0, 0.001, generator=reference.noise_generator)
        for _ in range(steps):
            attacked = attacked.detach().requires_grad_()
            logits = network(attacked)
            of_host = cross_entropy(logits, labels) if host == "pgd" else beta * divergence(clean, logits)
            (gradient,) = torch.autograd.grad(of_host + term(logits), attacked)
            reference.see("attack", gradient)
            moved = attacked.detach() + step_size * gradient.sign()
            attacked = images + clip_to_box(images, clip_to_ball(moved - images))
        attacked = (images + clip_to_box(images, attacked - images)).detach().requires_grad_()
        network.train()
        network.zero_grad()
        if host == "trades":
            clean = network(images)
        reference.logits = network(attacked)
        if host == "pgd":
            reference.loss = cross_entropy(reference.logits, labels) + term(reference.logits)
        else:
            reference.loss = cross_entropy(clean, labels) + beta * divergence(clean, reference.logits) + term(clean)
        reference.loss.backward()
        reference.see("update", attacked.grad)
        reference.note(labels)
        reference.update()

    return reference.train(train_minibatch)


TE = {"host": "pgd", "weight": 300.0, "momentum": 0.9, "start": 0.25, "full": 0.5, "beta": 6.0}
TE_CASES = {
    "pgd": (2, {}),
    "pgd, no step": (0, {}),
    "pgd, not begun": (2, {"start": 0.75, "full": 1.0}),
    "pgd, begun in the second epoch": (2, {"start": 0.5, "full": 0.75, "momentum": 0.5}),
    "pgd, crafting in training mode": (2, {"crafting_batch_norm": "train"}),
    "trades": (2, {"host": "trades"}),
    "trades, no step": (0, {"host": "trades", "beta": 1.0}),
    "trades, not begun": (1, {"host": "trades", "start": 0.75, "full": 1.0}),
}


@pytest.mark.parametrize("magnitude", [None, "update", "attack"])
@pytest.mark.parametrize(("steps", "options"), TE_CASES.values(), ids=TE_CASES)
def test_te(steps, options, magnitude):
    options = TE | {"crafting_batch_norm": "eval"} | options
    assert_agrees(te(steps, 0.04, **options), "te", Effort(steps, 0.04), magnitude, **options)


def test_te_before_it_begins_is_pgd_crafted_in_evaluation_mode(inside_the_box):
    expected, _ = trained("pgd", Effort(2, 0.04), crafting_batch_norm="eval")
    found, _ = trained("te", Effort(2, 0.04), crafting_batch_norm="eval", **TE | {"start": 0.75, "full": 1.0})
    assert_same_networks(found, expected)


@pytest.mark.parametrize("epochs", [20, 100, 200])
def test_the_weight_of_te_grows_from_epoch_90_to_epoch_150_of_200(epochs):
    """Counted from 1, as in the authors' loop."""
    method = methods.load("te")(Linf(EPS), **TE | {"start": 0.45, "full": 0.75})
    weights = [method.schedule(Position(epoch - 1, epochs, 0, 2))["weight"] for epoch in range(1, epochs + 1)]
    begun = [method.schedule(Position(epoch - 1, epochs, 0, 2))["begun"] for epoch in range(1, epochs + 1)]
    start, full = 90 * epochs // 200, 150 * epochs // 200
    assert begun == [0.0] * (start - 1) + [1.0] * (epochs - start + 1)
    assert weights[: start - 1] == [0.0] * (start - 1)
    assert weights[start - 1] == pytest.approx(300 * math.exp(-5))
    assert weights[(start + full) // 2 - 1] == pytest.approx(300 * math.exp(-5 / 4))
    assert weights[full - 1 :] == [300.0] * (epochs - full + 1)
