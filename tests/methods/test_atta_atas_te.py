"""ATTA, ATAS and TE against second, naive implementations, written here from the papers' code.

A store of perturbations is followed by slicing: `crop` and `paste` know nothing of methods/stores.py.
"""

import pytest
import torch
from reference import (
    EPS,
    IMAGES,
    Reference,
    assert_agrees,
    assert_same_networks,
    clip_to_ball,
    clip_to_box,
    minibatches,
    places,
    position,
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


def test_atas_in_its_warm_up_is_atta_with_one_step_of_eps_from_uniform_noise(monkeypatch):
    """Inside the box: ATTA's start is not cut to it."""
    inside = [(EPS + (1 - 2 * EPS) * images, labels) for images, labels in minibatches()]
    monkeypatch.setattr("reference.minibatches", lambda: inside)
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
