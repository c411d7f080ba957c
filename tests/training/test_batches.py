import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.batches import PADDING, Batches, seeded

AUGMENTATIONS = ["none", "crop", "crop_flip"]
every_augmentation = pytest.mark.parametrize("augmentation", AUGMENTATIONS)


def split(count=23, shape=(3, 6, 5)):
    """Images of random pixels, each with its own number as label, so that a served image can be traced."""
    images = torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return images, torch.arange(count)


def batches(augmentation="crop_flip", seed=0, batch_size=5, **data):
    return Batches(*split(**data), batch_size, seed, augmentation)


def same(one, other):
    one, other = list(one), list(other)
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left.tensors, right.tensors, strict=True)
    )


def pairs(epoch):
    return [(batch.images, batch.labels) for batch in epoch]


def crops_of(image, flips):
    """Every image that padding, cropping and flipping can make of a (C, H, W) image, by shift and flip, by loops."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * PADDING, width + 2 * PADDING, dtype=image.dtype)
    for c in range(channels):
        for h in range(height):
            for w in range(width):
                padded[c, h + PADDING, w + PADDING] = image[c, h, w]
    for top in range(2 * PADDING + 1):
        for left in range(2 * PADDING + 1):
            crop = padded[:, top : top + height, left : left + width]
            for flip in flips:
                out = torch.empty_like(image)
                for w in range(width):
                    out[:, :, w] = crop[:, :, width - 1 - w if flip else w]
                yield (top, left, flip), out


@every_augmentation
@given(
    start=st.integers(0, 5),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 300),
    batch_size=st.sampled_from([2, 5, 23]),
)
def test_seed_and_epoch_alone_say_what_is_served_wherever_one_starts(augmentation, start, seed, epoch, batch_size):
    one, other = (batches(augmentation, seed, batch_size) for _ in range(2))
    list(one.epoch(epoch + 1))  # an epoch in between leaves no trace
    assert same(list(one.epoch(epoch))[start:], other.epoch(epoch, start))


@every_augmentation
def test_another_epoch_and_another_seed_are_served_otherwise(augmentation):
    served = [batches(augmentation, seed).epoch(epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    orders = [tuple(torch.cat([labels for _, labels in pairs(each)]).tolist()) for each in served]
    assert len(set(orders)) == len(orders)


@every_augmentation
@given(count=st.integers(1, 40), batch_size=st.integers(1, 9), epoch=st.integers(0, 99))
def test_every_image_is_served_once_an_epoch(augmentation, count, batch_size, epoch):
    served = batches(augmentation, batch_size=batch_size, count=count)
    sizes, labels = zip(*[(len(images), labels) for images, labels in pairs(served.epoch(epoch))], strict=True)
    assert sorted(torch.cat(labels).tolist()) == list(range(count))
    assert len(sizes) == len(served)
    assert set(sizes[:-1]) <= {batch_size}
    assert 1 <= sizes[-1] <= batch_size


@every_augmentation
def test_images_are_float32_in_0_to_1(augmentation):
    for images, labels in pairs(batches(augmentation).epoch(0)):
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert images.shape[1:] == (3, 6, 5)
        assert images.min() >= 0
        assert images.max() <= 1


def test_without_augmentation_an_image_is_served_as_it_is():
    images, _ = split()
    for served, labels in pairs(batches("none").epoch(0)):
        assert torch.equal(served, images[labels].float() / 255)


@pytest.mark.parametrize(("augmentation", "flips"), [("crop", [False]), ("crop_flip", [False, True])])
def test_a_served_image_is_a_crop_of_its_padded_original_perhaps_flipped(augmentation, flips):
    images, _ = split(count=12)
    chosen = set()
    for served, labels in pairs(batches(augmentation, count=12).epoch(0)):
        for image, label in zip((served * 255).round().byte(), labels, strict=True):
            matches = [how for how, crop in crops_of(images[label], flips) if torch.equal(crop, image)]
            assert matches
            chosen.update(matches)
    assert len(chosen) > 6  # not one crop for all
    assert {flip for _, _, flip in chosen} == set(flips)


@every_augmentation
def test_a_minibatch_says_which_rows_it_shows_and_how_they_were_shifted_and_flipped(augmentation):
    images, _ = split(count=12)
    for batch in batches(augmentation, count=12).epoch(3):
        assert torch.equal(batch.index, batch.labels)  # each image's label is its number
        for position, row in enumerate(batch.index):
            crops = dict(crops_of(images[row], [False, True]))
            how = (*batch.shifts[:, position].tolist(), bool(batch.flips[position]))
            assert torch.equal(crops[how], (batch.images[position] * 255).round().byte())


def served_at_once(images, augmentation):
    (served,) = Batches(images, torch.zeros(len(images)).long(), len(images), 0, augmentation).epoch(0)
    return served.images


def test_every_shift_is_as_likely_as_every_other():
    count, places = 8100, 2 * PADDING + 1
    images = torch.zeros(count, 1, places, places, dtype=torch.uint8)
    images[:, :, PADDING, PADDING] = 255  # a bright pixel in the middle: every shift keeps it in sight
    seen_at = served_at_once(images, "crop").sum((0, 1))
    assert seen_at.sum() == count
    assert (seen_at - 100).abs().max() < 50  # five deviations


def test_half_of_the_images_are_flipped():
    images = torch.arange(20, 260, 20).to(torch.uint8).expand(4000, 1, 9, 12)  # brighter to the right
    for augmentation, fraction in (("crop", 0), ("crop_flip", 0.5)):
        middle = served_at_once(images, augmentation)[:, 0, 4, 5:7]
        bright_left = (middle[:, 0] > middle[:, 1]).float().mean().item()
        assert bright_left == pytest.approx(fraction, abs=0.04)


@every_augmentation
def test_the_global_random_state_is_neither_used_nor_touched(augmentation):
    torch.manual_seed(1)
    first = list(batches(augmentation).epoch(0))
    torch.manual_seed(2)
    before = torch.get_rng_state(), random.getstate()
    assert same(first, batches(augmentation).epoch(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_the_split_itself_is_never_changed():
    images, labels = split()
    kept = images.clone()
    for served, _ in pairs(Batches(images, labels, 5, 0, "none").epoch(0)):
        served.zero_()
    assert torch.equal(images, kept)


def test_streams_of_neighbouring_numbers_are_unrelated():
    streams = [(a, b) for a in range(4) for b in range(4)] + [(0,), (1,), (0, 0, 0)]
    drawn = torch.stack([torch.rand(2000, generator=seeded("cpu", *numbers)) for numbers in streams])
    correlation = torch.corrcoef(drawn) - torch.eye(len(streams))
    assert correlation.abs().max() < 0.12
    assert torch.equal(drawn[5], torch.rand(2000, generator=seeded("cpu", *streams[5])))
