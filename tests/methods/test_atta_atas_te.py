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
    clip_to_ball,
    clip_to_box,
    places,
    position,
)

from experiment.effort import Effort

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
