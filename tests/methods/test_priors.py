"""FGSM-EP, FGSM-MEP, FGSM-PCO and ConvergeSmooth against second, naive implementations from the authors' descriptions.

Stores are dictionaries by the image's row of the training split, and what a loss says of an input is asked of PyTorch
with the whole loss at once.
"""

import pytest
import torch
from reference import (
    EPS,
    Reference,
    assert_agrees,
    clip_to_ball,
    clip_to_box,
    minibatches,
    new_network,
    places,
    position,
    relaxed,
    trained,
)
from session import Session, random_minibatches

from experiment.effort import Effort
from methods import Batch, Position, converge_smooth

pytestmark = pytest.mark.usefixtures("float64")
IMAGES = 6  # of the training split: each is met three times, which is when momentum first tells
PGI = {"momentum": True, "decay": 0.3, "label_weight": 0.6, "consistency": 10.0, "reset": 40, "aligned": False}
PGI |= {"converge_smooth": "none", "band": 0.03}


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr("reference.IMAGES", IMAGES)


def mean_square(one, other):
    return sum(((a - b) ** 2).sum() for a, b in zip(one, other, strict=True)) / (10 * len(one))


def step(images, delta, gradient, length):
    return clip_to_box(images, clip_to_ball(delta + length * gradient.sign()))


def first_pass(reference, images, start, labels, true):
    """Logits, whose graph lives on, and the gradient of their loss for the start."""
    start = start.clone().requires_grad_()
    logits = reference.network(images + start)
    (gradient,) = torch.autograd.grad(relaxed(logits, labels, true), start, retain_graph=True)
    reference.see("attack", gradient)
    return logits, gradient


def more_steps(reference, images, delta, labels, true, steps, length):
    for _ in range(steps - 1):
        _, gradient = first_pass(reference, images, delta, labels, true)
        delta = step(images, delta, gradient, length)
    return delta


def descend(reference, loss, logits, labels, shown):
    """One update with the loss's gradient, and what it says of the input `shown`."""
    reference.network.zero_grad()
    shown.retain_grad()
    loss.backward()
    reference.see("update", shown.grad)
    reference.loss, reference.logits = loss.detach(), logits.detach()
    reference.note(labels)
    reference.update()


def cut(padded, shifts, flips):
    """What crops of padded perturbations show, image by image."""
    rows = []
    for one, row, column, flip in zip(padded, *shifts.tolist(), flips.tolist(), strict=True):
        shown = one[:, row : row + 8, column : column + 8]
        rows.append(shown.flip(2) if flip else shown)
    return torch.stack(rows)


class Rows(dict):
    """A store by image, of the images' coordinates or (`aligned`) of padded ones."""

    def __init__(self, rows, aligned):
        super().__init__(rows)
        self.aligned = aligned

    def at(self, minibatch):
        index, shifts, flips = places(minibatch)
        found = [self[row] for row in index.tolist()]
        return cut(found, shifts, flips) if self.aligned else torch.stack(found)

    def put(self, minibatch, values):
        index, shifts, flips = places(minibatch)
        for i, row in enumerate(index.tolist()):
            if not self.aligned:
                self[row] = values[i].clone()
                continue
            top, left = shifts[:, i].tolist()
            self[row][:, top : top + 8, left : left + 8] = values[i].flip(2) if flips[i] else values[i]


def pgi(steps, length, options, held=()):
    """Jia et al., 2022, as in FGSM_MEP.py; with ConvergeSmooth as in FGSM_MEP_CS.py of FAT-CS/ConvergeSmooth.

    held: the epochs in which its term is there.
    """
    reference, side = Reference(), 16 if options["aligned"] else 8
    true, kind = options["label_weight"], options["converge_smooth"]
    mean, losses = 0.0, []

    def new_stores():
        noise = torch.empty(IMAGES, 3, side, side).uniform_(-EPS, EPS, generator=reference.noise_generator)
        zeros = torch.zeros(IMAGES, 3, side, side)
        return [Rows(enumerate(kept), options["aligned"]) for kept in (EPS * noise.sign(), zeros)]

    def train_minibatch(images, labels):
        nonlocal mean, losses
        now, place = reference.minibatch, position(reference.minibatch)
        if place.minibatch == 0:
            if place.epoch % options["reset"] == 0:
                reference.stored, reference.momenta = new_stores()
            if losses:
                mean, losses = sum(loss for loss, _ in losses) / sum(count for _, count in losses), []
        start = reference.stored.at(now)
        before, gradient = first_pass(reference, images, start, labels, true)
        delta = step(images, start, gradient, length)
        delta = more_steps(reference, images, delta, labels, true, steps, length)
        clean = {"none": lambda: None, "start": lambda: before, "clean": lambda: reference.network(images)}[kind]()
        shown = (images + delta).requires_grad_()
        after = reference.network(shown)
        loss = relaxed(after, labels, true) + options["consistency"] * mean_square(after, before)
        if kind != "none":
            clean_loss = relaxed(clean, labels, true)
            losses.append((clean_loss.item() * len(images), len(images)))
            if place.epoch in held and abs(clean_loss.item() - mean) > options["band"]:
                loss = loss + clean_loss if clean_loss.item() > mean else loss - clean_loss
        descend(reference, loss, after, labels, shown)
        if options["momentum"]:
            momentum = gradient / gradient.abs().sum() + options["decay"] * reference.momenta.at(now)
            reference.momenta.put(now, momentum)
            delta = step(images, start, momentum, length)
        reference.stored.put(now, delta)

    return reference.train(train_minibatch)


def pco(steps, length, label_weight=0.6, consistency=10.0, reach=1.5):
    """Wang et al., 2024, as in FGSM-PCO.py."""
    reference = Reference()
    noise = torch.empty(IMAGES, 3, 8, 8).uniform_(-EPS, EPS, generator=reference.noise_generator)
    stored = Rows(enumerate(EPS * noise.sign()), aligned=False)

    def train_minibatch(images, labels):
        start = stored.at(reference.minibatch)
        before, gradient = first_pass(reference, images, start, labels, label_weight)
        delta = step(images, start, gradient, length)
        delta = more_steps(reference, images, delta, labels, label_weight, steps, length)
        after, mixtures = reference.network(images + delta), []
        for i, label in enumerate(labels):
            sure = before[i].exp()[label] / before[i].exp().sum()
            mixtures.append((1 - sure) * (images[i] + start[i]) + sure * (images[i] + reach * delta[i]))
        shown = torch.stack(mixtures)
        mixed = reference.network(shown)
        uneven = mean_square(after, before) - mean_square(after, mixed)
        loss = relaxed(mixed, labels, label_weight) + consistency * (uneven if uneven > 0 else -uneven)
        descend(reference, loss, mixed, labels, shown)
        stored.put(reference.minibatch, delta)

    return reference.train(train_minibatch)


CASES = {
    "mep": (1, EPS, {}),
    "mep, 2 steps": (2, 0.5 * EPS, {}),
    "mep, drawn anew each epoch": (1, EPS, {"reset": 1}),
    "mep, other numbers": (1, 0.4 * EPS, {"decay": 0.9, "label_weight": 0.8, "consistency": 3.0}),
    "mep, aligned": (1, 0.4 * EPS, {"aligned": True}),
    "ep": (1, EPS, {"momentum": False}),
    "ep, 2 short steps, aligned": (2, 0.3 * EPS, {"momentum": False, "aligned": True}),
}


@pytest.mark.parametrize("magnitude", ["update", "attack"])
@pytest.mark.parametrize(("steps", "length", "options"), CASES.values(), ids=CASES)
def test_pgi_is_the_paper_s_algorithm(steps, length, options, magnitude):
    options = PGI | options
    assert_agrees(pgi(steps, length, options), "pgi", Effort(steps, length), magnitude, **options)


@pytest.mark.parametrize("magnitude", ["update", "attack"])
@pytest.mark.parametrize(("steps", "length"), [(1, EPS), (2, 0.5 * EPS)])
def test_pco_is_the_paper_s_algorithm(steps, length, magnitude):
    options = {"label_weight": 0.6, "consistency": 10.0, "reach": 1.5}
    assert_agrees(pco(steps, length, **options), "pco", Effort(steps, length), magnitude, **options)


def test_pco_s_numbers_are_its_options():
    options = {"label_weight": 0.8, "consistency": 2.0, "reach": 1.1}
    assert_agrees(pco(1, EPS, **options), "pco", Effort(1, EPS), **options)


@pytest.mark.parametrize("kind", ["clean", "start"])
@pytest.mark.parametrize("band", [0.0, 0.05])
def test_converge_smooth_pulls_the_clean_loss_to_its_last_mean(kind, band, monkeypatch):
    monkeypatch.setattr(converge_smooth, "DROPS", (-2, 110))  # so that it holds in epoch 1 of 4
    options = PGI | {"converge_smooth": kind, "band": band, "consistency": 0.0}
    reference = pgi(1, EPS, options, held=[1])
    assert_agrees(reference, "pgi", Effort(1, EPS), "update", **options)
    assert apart(reference, pgi(1, EPS, options)) > 1e-3


def test_converge_smooth_holds_where_the_authors_script_has_it():
    held = [epoch for epoch in range(110) if converge_smooth.holds(Position(epoch, 110, 0, 1))]
    assert held == [*range(2, 99), 102, 103, 107, 108]


def apart(one, other):
    """The largest difference of a weight."""
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def test_the_references_tell_the_variants_apart():
    mep = pgi(1, 0.4 * EPS, PGI)
    for changed in ({"momentum": False}, {"aligned": True}, {"reset": 1}, {"decay": 0.9}):
        assert apart(mep, pgi(1, 0.4 * EPS, PGI | changed)) > 1e-5


def test_mep_whose_momentum_forgets_at_once_is_ep():
    forgetting, _ = trained("pgi", Effort(1, EPS), **(PGI | {"decay": 0.0}))
    ep, _ = trained("pgi", Effort(1, EPS), **(PGI | {"momentum": False}))
    assert all(map(torch.equal, forgetting.parameters(), ep.parameters()))


def test_a_band_that_nothing_leaves_is_no_band():
    within, _ = trained("pgi", Effort(1, EPS), **(PGI | {"converge_smooth": "start", "band": 100.0}))
    without, _ = trained("pgi", Effort(1, EPS), **PGI)
    assert all(map(torch.equal, within.parameters(), without.parameters()))


@pytest.mark.parametrize("method", ["pgi", "pco"])
def test_the_order_of_a_minibatch_s_images_is_of_no_consequence(method):
    def kept(order):
        session = Session(method, network=new_network(), shape=(3, 8, 8))
        for epoch in range(2):
            images, labels = list(minibatches())[epoch]
            batch = Batch(images, labels, torch.arange(6), *places(0)[1:])
            batch = Batch(*(tensor[..., order] if tensor.dim() == 2 else tensor[order] for tensor in batch.tensors))
            session.method.begin_epoch(session.learner, Position(epoch, 4, 0, 1))
            session.learner.begin_batch(batch.labels, lambda update: 0.01)
            session.method.train_batch(session.learner, batch, Effort(1, EPS))
        return [*session.network.parameters(), *session.method.state.values()]

    for one, other in zip(kept(list(range(6))), kept([3, 0, 5, 1, 4, 2]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["pgi", "pco"])
def test_what_is_stored_stays_in_the_ball(method):
    session = Session(method)
    for images, labels in random_minibatches():
        session.train(images, labels, Effort(1, EPS))
    stored = session.method.state["delta"]
    assert stored.abs().max() <= EPS + 1e-9
    assert stored.abs().min() < EPS
