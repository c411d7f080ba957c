"""FGSM and methods that change little of it: the gradient that a step goes up, its length, or the loss of the update.

The references are naive, in float64, as in test_references.py: an image at a time where that is plainer.
"""

import copy

import pytest
import reference as references
import torch
from reference import (
    EPS,
    Reference,
    assert_agrees,
    clip_to_ball,
    clip_to_box,
    cross_entropy,
    minibatches,
    trained,
)

from experiment.effort import Effort
from experiment.threats.linf import Linf
from methods import load

pytestmark = pytest.mark.usefixtures("float64")


def perturbed(name, effort, **options):
    return references.perturbed(name, effort, **options)[2]


def crafted(reference, images, labels, delta, steps, move, crafting_batch_norm):
    """`delta` after the steps, each `move(delta, gradient)`."""
    reference.network.train(crafting_batch_norm == "train")
    for _ in range(steps):
        reference.observe(images + delta, labels, "attack")
        delta = move(delta, reference.gradients(images, delta, labels))
    return delta


def distance(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


# -- the references ---------------------------------------------------------------------------------------------------


def fgsm(steps, step_size, crafting_batch_norm="train"):
    """Goodfellow et al., 2015, as the start `zero` of locuslab/fast_adversarial; theirs is one step."""
    reference = Reference()

    def train_minibatch(images, labels):
        def move(delta, gradient):
            return clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))

        delta = crafted(reference, images, labels, torch.zeros_like(images), steps, move, crafting_batch_norm)
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def zero_grad(steps, step_size, quantile=0.35, crafting_batch_norm="train"):
    """Golgooni et al., 2021, as in rohban-lab/catastrophic_overfitting."""
    reference = Reference()

    def train_minibatch(images, labels):
        def move(delta, gradient):
            for one in gradient:
                one[one.abs() < torch.quantile(one.abs().flatten(), quantile)] = 0
            return clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))

        start = clip_to_box(images, reference.uniform_noise(images))
        delta = crafted(reference, images, labels, start, steps, move, crafting_batch_norm)
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def multi_grad(steps, step_size, samples=3, crafting_batch_norm="train"):
    """Golgooni et al., 2021, as in rohban-lab/catastrophic_overfitting; theirs is one step."""
    reference = Reference()

    def train_minibatch(images, labels):
        delta = torch.zeros_like(images)
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            signs = []
            for _ in range(samples):
                point = clip_to_box(images, clip_to_ball(delta + reference.uniform_noise(images)))
                reference.observe(images + point, labels, "attack")
                signs.append(reference.gradients(images, point, labels).sign())
            up = torch.stack([sign > 0 for sign in signs]).all(0)
            down = torch.stack([sign < 0 for sign in signs]).all(0)
            delta = clip_to_box(images, clip_to_ball(delta + step_size * (up.double() - down.double())))
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def lp_fgsm(steps, step_size, p=32.0, crafting_batch_norm="train"):
    """Mehouachi and Jabari, 2025, as in submit-papersAnon/Lp-FGSM without noise; theirs is one step."""
    reference, q = Reference(), p / (p - 1)

    def train_minibatch(images, labels):
        def move(delta, gradient):
            moved = delta.clone()
            for i, one in enumerate(gradient):
                norm = (one.abs() ** q).sum() ** (1 / q)
                moved[i] += step_size * one.sign() * (one.abs() / norm) ** (q - 1)
            return clip_to_ball(moved)

        delta = crafted(reference, images, labels, torch.zeros_like(images), steps, move, crafting_batch_norm)
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


AAER = {"host": "fast", "lambda1": 1.0, "lambda2": 2.5, "lambda3": 1.5, "ce_gradient": False}
N_AAER = AAER | {"host": "n_fgsm"}


def aaer_loss(at_start, logits, labels, lambda1, lambda2, lambda3, ce_gradient):
    """Of one minibatch; images one by one, and a branch where the paper's algorithm has one."""
    losses = [cross_entropy(one[None], labels[i : i + 1]) for i, one in enumerate(logits)]
    loss = sum(losses) / len(labels)
    if at_start is None:
        return loss
    drops = [cross_entropy(one[None], labels[i : i + 1]) - losses[i] for i, one in enumerate(at_start)]
    moved = [((one - other) ** 2).sum() for one, other in zip(at_start, logits, strict=True)]
    abnormal = [i for i, drop in enumerate(drops) if drop > 0]
    normal = [i for i, drop in enumerate(drops) if drop <= 0]
    if not abnormal or not normal:
        return loss
    drop = sum(drops[i] for i in abnormal) / len(abnormal)
    further = sum(moved[i] for i in abnormal) / len(abnormal) - (sum(moved[i] for i in normal) / len(normal)).item()
    value = lambda2 * (drop if ce_gradient else drop.item()) + lambda3 * max(further, 0)
    return loss + lambda1 * len(abnormal) / len(labels) * value


def aaer(steps, step_size, host, crafting_batch_norm="train", **weights):
    """Lin et al., 2023, as in tmllab/2023_NeurIPS_AAER; theirs is one step."""
    reference = Reference()

    def train_minibatch(images, labels):
        seen = []

        def move(delta, gradient):
            seen.append(reference.logits.detach())
            delta = delta + step_size * gradient.sign()
            return clip_to_box(images, clip_to_ball(delta) if host == "fast" else delta)

        start = clip_to_box(images, reference.uniform_noise(images, EPS if host == "fast" else 2 * EPS))
        delta = crafted(reference, images, labels, start, steps, move, crafting_batch_norm)
        at_start = seen[0] if seen else None
        reference.network.train()
        observer = copy.deepcopy(reference.network)
        shown = observer.first_layer[0](images + delta).detach().requires_grad_()  # normalised
        logits = observer.rest(observer.first_layer[1](shown))
        aaer_loss(at_start, logits, labels, **weights).backward()
        reference.seen["update"] = shown.grad.abs().sum().item()
        reference.network.zero_grad()
        reference.logits = reference.network(images + delta)
        reference.loss = aaer_loss(at_start, reference.logits, labels, **weights)
        reference.loss.backward()
        reference.note(labels)
        reference.update()

    return reference.train(train_minibatch)


# -- the comparisons --------------------------------------------------------------------------------------------------

EVAL = {"crafting_batch_norm": "eval"}
CASES = {
    "fgsm": (fgsm, Effort(1, EPS), {}),
    "fgsm, clean": (fgsm, Effort(0, EPS), {}),
    "fgsm, 2 steps, batch norm in evaluation mode": (fgsm, Effort(2, 0.6 * EPS), EVAL),
    "zero_grad": (zero_grad, Effort(1, 2 * EPS), {"quantile": 0.35}),
    "zero_grad, all but the largest": (zero_grad, Effort(1, 2 * EPS), {"quantile": 1.0}),
    "zero_grad, noise": (zero_grad, Effort(0, 2 * EPS), {"quantile": 0.35}),
    "zero_grad, 2 steps, batch norm in evaluation mode": (zero_grad, Effort(2, EPS), EVAL | {"quantile": 0.7}),
    "multi_grad": (multi_grad, Effort(1, 2 * EPS), {"samples": 3}),
    "multi_grad, 2 steps, batch norm in evaluation mode": (multi_grad, Effort(2, 0.6 * EPS), EVAL | {"samples": 2}),
    "aaer": (aaer, Effort(1, 1.25 * EPS), AAER),
    "aaer, noise": (aaer, Effort(0, 1.25 * EPS), AAER),
    # Abnormal images of a network as new as this: short steps in evaluation mode, or steps that go much too far.
    "aaer, some images abnormal": (aaer, Effort(1, 0.1 * EPS), EVAL | AAER),
    "aaer on N-FGSM, some images abnormal": (aaer, Effort(1, 10 * EPS), N_AAER),
    "aaer on N-FGSM": (aaer, Effort(1, EPS), N_AAER | {"lambda2": 1.5, "lambda3": 0.15}),
    "aaer, the losses' gradient, 2 steps": (aaer, Effort(2, EPS), EVAL | AAER | {"ce_gradient": True}),
    "lp_fgsm": (lp_fgsm, Effort(1, EPS), {"p": 32.0}),
    "lp_fgsm, clean": (lp_fgsm, Effort(0, EPS), {"p": 32.0}),
    "lp_fgsm, 2 steps, batch norm in evaluation mode": (lp_fgsm, Effort(2, 0.8 * EPS), EVAL | {"p": 4.0}),
}


@pytest.mark.parametrize("magnitude", [None, "update", "attack"])
@pytest.mark.parametrize(("reference", "effort", "options"), CASES.values(), ids=CASES)
def test_it_trains_as_the_paper_s_algorithm(reference, effort, options, magnitude):
    expected = reference(effort.steps, effort.step_size, **options)
    assert_agrees(expected, reference.__name__, effort, magnitude, **options)


def test_the_references_tell_the_variants_of_a_method_apart():
    for one, other in [
        (zero_grad(1, 2 * EPS, 0.35), zero_grad(1, 2 * EPS, 0.45)),
        (zero_grad(2, EPS), zero_grad(2, EPS, **EVAL)),
        (multi_grad(1, 2 * EPS, 3), multi_grad(1, 2 * EPS, 2)),
        (lp_fgsm(1, EPS, 32.0), lp_fgsm(1, EPS, 16.0)),
        (aaer(1, EPS, **AAER), aaer(1, EPS, **N_AAER)),
        (aaer(1, 0.1 * EPS, **EVAL, **AAER), aaer(1, 0.1 * EPS, **EVAL, **AAER | {"lambda3": 0.0})),
        (aaer(1, 10 * EPS, **N_AAER), aaer(1, 10 * EPS, **N_AAER | {"lambda3": 0.0})),
        (aaer(1, EPS, **EVAL, **AAER), aaer(1, EPS, **EVAL, **AAER | {"ce_gradient": True})),
    ]:
        assert distance(one.network, other.network) > 1e-5


# -- where a method is another one ------------------------------------------------------------------------------------


def test_fgsm_is_fast_from_zero_and_n_fgsm_without_noise():
    expected = perturbed("fgsm", Effort(1, EPS))
    assert expected.any()
    assert torch.equal(perturbed("fast", Effort(1, 1.25 * EPS), start="zero"), expected)
    assert torch.equal(perturbed("n_fgsm", Effort(1, EPS), noise=0.0), expected)


def test_zero_grad_that_leaves_no_pixel_is_fgsm_rs():
    expected = perturbed("fast", Effort(1, 2 * EPS), start="random")
    assert torch.equal(perturbed("zero_grad", Effort(1, 2 * EPS), quantile=0.0), expected)
    assert not torch.equal(perturbed("zero_grad", Effort(1, 2 * EPS), quantile=0.35), expected)


@pytest.mark.parametrize("quantile", [0.0, 0.05, 0.35, 0.5, 0.7, 0.99, 1.0])
def test_zero_grad_leaves_what_is_strictly_below_the_quantile_ties_included(quantile):
    method = load("zero_grad")(None, quantile=quantile)
    generator = torch.Generator().manual_seed(0)
    distinct = torch.randn(5, 1, 3, 7, generator=generator)
    for gradient in (distinct, (2 * distinct).round(), torch.zeros(5, 1, 3, 7)):  # 0.05 and its multiples: exact ranks
        for one, found in zip(gradient, method.without_small(gradient), strict=True):
            kept = one.abs() >= torch.quantile(one.abs().flatten(), quantile)
            assert torch.equal(found, torch.where(kept, one, 0))


def test_multi_grad_of_one_sample_is_a_step_from_zero_along_the_gradient_at_noise():
    images, _ = next(minibatches())
    fast = perturbed("fast", Effort(1, 2 * EPS), start="random")
    noise = perturbed("fast", Effort(0, EPS), start="random")
    expected = clip_to_box(images, EPS * (fast - noise).sign())  # to which side of the noise FGSM-RS has gone
    found = perturbed("multi_grad", Effort(1, 2 * EPS), samples=1)
    moved = fast != noise  # the noise may lie where the box ends
    assert moved.double().mean() > 0.8
    assert torch.allclose(found[moved], expected[moved], rtol=0, atol=1e-15)


def test_multi_grad_moves_fewer_pixels_the_more_gradients_are_asked():
    moved = [(perturbed("multi_grad", Effort(1, EPS), samples=n) != 0).double().mean() for n in (1, 3, 20)]
    assert 1 > moved[0] > moved[1] > moved[2] > 0


@pytest.mark.parametrize(
    ("host", "step", "options"), [("fast", 1.25, {"start": "random"}), ("n_fgsm", 1, {"noise": 2.0})]
)
def test_aaer_without_its_regulariser_is_its_host(host, step, options):
    mine = AAER | {"host": host, "lambda1": 0.0}
    network, statistics = trained("aaer", Effort(1, step * EPS), "update", **EVAL, **mine)
    expected, expected_statistics = trained(host, Effort(1, step * EPS), "update", **EVAL, **options)
    assert distance(network, expected) < 1e-12
    assert statistics == [pytest.approx(row, rel=1e-12) for row in expected_statistics]
    assert load("aaer")(Linf(EPS), **mine).stays_in_ball == load(host).stays_in_ball


@pytest.mark.parametrize("ce_gradient", [False, True])
@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize("abnormal", range(7))
def test_aaer_s_loss_is_the_paper_s_however_many_images_are_abnormal(abnormal, further, ce_gradient):
    """further: whether the logits of abnormal images move further than those of the others."""
    weights = {"lambda1": 0.7, "lambda2": 2.5, "lambda3": 1.5, "ce_gradient": ce_gradient}
    at_start, labels = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    toward_label = torch.where(torch.arange(6) < abnormal, 3.0 if further else 0.1, -1.0)
    logits = (at_start + toward_label[:, None] * torch.eye(6, 10)).requires_grad_()
    method = load("aaer")(Linf(EPS), host="fast", **weights)
    losses = method.cross_entropy(logits, labels, reduction="none")
    loss = losses.mean() + 0.7 * method.regulariser(at_start, logits, labels, losses)
    expected = aaer_loss(at_start, logits, labels, **weights)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    without = aaer_loss(at_start, logits, labels, **weights | {"lambda3": 0.0})
    assert (expected.item() != without.item()) == (further and 0 < abnormal < 6)
    (found,), (wanted,) = torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", [2.0, 8.0, 32.0])
def test_lp_fgsm_s_perturbations_have_the_length_eps_in_their_norm(p):
    found = perturbed("lp_fgsm", Effort(1, EPS), p=p).flatten(1)
    assert found.norm(p, dim=1).tolist() == pytest.approx([EPS] * len(found), rel=1e-9)
    assert found.abs().max() < EPS


def test_lp_fgsm_lies_between_the_gradient_and_fgsm_without_the_box():
    images, labels = next(minibatches())
    reference = Reference()
    gradient = reference.gradients(images, torch.zeros_like(images), labels)
    shortened = EPS * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert torch.allclose(perturbed("lp_fgsm", Effort(1, EPS), p=2.0), shortened, rtol=0, atol=1e-12)
    unboxed = perturbed("lp_fgsm", Effort(1, EPS), p=1e12)
    assert torch.allclose(unboxed, EPS * gradient.sign(), rtol=0, atol=1e-9)
    assert torch.allclose(clip_to_box(images, unboxed), perturbed("fgsm", Effort(1, EPS)), rtol=0, atol=1e-9)


def test_lp_fgsm_takes_no_step_without_a_gradient_and_a_whole_one_with_a_tiny_one():
    method = load("lp_fgsm")(None, p=32.0)
    gradient = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(method.steepest(torch.zeros_like(gradient)), torch.zeros_like(gradient))
    assert torch.allclose(method.steepest(1e-300 * gradient), method.steepest(gradient), rtol=1e-9, atol=0)
