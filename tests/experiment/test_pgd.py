"""PGD against a naive one that carries every image to the end, and the ways in which an image can be broken."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from experiment import plugins
from experiment.pgd import attack, cross_entropy, margin

ROUNDING = 1e-6
CLASSES = 4
LOSSES = {"cross entropy": cross_entropy, "margin": margin}
seeds = st.integers(0, 2**32)
settings_of_an_attack = {
    "norm": st.sampled_from(["linf", "l2"]),
    "eps": st.sampled_from([0.0, 2 / 255, 0.1, 0.4]),
    "steps": st.integers(0, 6),
    "step_size": st.sampled_from([0.005, 0.05, 0.3]),
    "restarts": st.integers(1, 3),
    "random_start": st.booleans(),
    "loss": st.sampled_from(list(LOSSES)),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def problem(seed, count=5, dtype=torch.float64):
    """A random network, images (some pixels exactly 0 or 1) and labels, most of them right."""
    random = np.random.default_rng(seed)
    images = random.random((count, 2, 3, 2))
    images[random.random(images.shape) < 0.2] = 0
    images[random.random(images.shape) < 0.2] = 1
    images = torch.from_numpy(images).to(dtype)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, CLASSES)).to(dtype).eval()
    for parameter in network.parameters():
        parameter.data = torch.from_numpy(random.normal(0, 1.5, tuple(parameter.shape))).to(dtype)
    labels = network(images).argmax(1)
    wrong = torch.from_numpy(random.random(count) < 0.2)
    return network, images, torch.where(wrong, (labels + 1) % CLASSES, labels)


def threat(eps, seed=0, norm="linf"):
    return plugins.load("threat", norm)(eps, torch.Generator().manual_seed(seed))


def run(seed, network, images, labels, *, norm, eps, loss, **options):
    return attack(network, images, labels, threat(eps, seed, norm), loss=LOSSES[loss], **options)


def lengths(norm, delta):
    return torch.linalg.vector_norm(delta.flatten(1).double(), {"linf": torch.inf, "l2": 2}[norm], dim=1)


def naive_loss(name, logits, label):
    """Of one image, a row of logits."""
    if name == "margin":
        return torch.stack([logit for j, logit in enumerate(logits) if j != label]).max() - logits[label]
    return logits.exp().sum().log() - logits[label]


def naive_starts(generator, images, norm, eps):
    """Uniform in the ball: in L2 a normal draw says where to, u^(1/d) how far."""
    if norm == "linf":
        return torch.empty_like(images).uniform_(-eps, eps, generator=generator)
    towards = torch.empty_like(images).normal_(generator=generator)
    shares = torch.empty(len(images)).to(images).uniform_(generator=generator)
    return torch.stack([eps * u ** (1 / 12) * t / (t**2).sum().sqrt() for u, t in zip(shares, towards, strict=True)])


def naive_step(norm, x, adversarial, gradient, step_size, eps):
    if norm == "linf":
        moved = adversarial + step_size * gradient.sign()
        return torch.clip(torch.minimum(torch.maximum(moved, x - eps), x + eps), 0, 1)
    length = (gradient**2).sum().sqrt()
    delta = adversarial - x + (step_size * gradient / length if length else 0)
    if (length := (delta**2).sum().sqrt()) > eps:
        delta = delta * eps / length
    return torch.clip(x + delta, 0, 1)


def naive_verdicts(seed, network, images, labels, *, norm, eps, steps, step_size, restarts, random_start, loss):
    """One image at a time, to the end of every restart whatever is broken on the way."""
    generator = torch.Generator().manual_seed(seed)
    robust = [bool(network(images[i : i + 1]).argmax() == labels[i]) for i in range(len(images))]
    for _ in range(restarts):
        starts = torch.zeros_like(images)
        if random_start:
            starts = naive_starts(generator, images, norm, eps)
        for i in range(len(images)):
            x, label = images[i], labels[i]
            adversarial = torch.clip(x + starts[i], 0, 1)
            for step in range(steps + 1):
                leaf = adversarial.clone().requires_grad_()
                (logits,) = network(leaf[None])
                robust[i] &= bool(logits.argmax() == label)
                if step < steps:
                    naive_loss(loss, logits, label).backward()
                    adversarial = naive_step(norm, x, adversarial, leaf.grad, step_size, eps)
    return robust


@given(seed=seeds, **settings_of_an_attack)
def test_verdicts_are_those_of_a_naive_attack_that_leaves_no_image_early(seed, **settings):
    network, images, labels = problem(seed)
    expected = naive_verdicts(seed, network, images, labels, **settings)
    assert run(seed, network, images, labels, **settings).robust.tolist() == expected


@given(seed=seeds, batch_size=st.integers(1, 5), **settings_of_an_attack)
def test_neither_draws_nor_verdicts_depend_on_the_batch_size(seed, batch_size, **settings):
    network, images, labels = problem(seed)
    whole = run(seed, network, images, labels, **settings)
    sizes = []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    parts = run(seed, network, images, labels, batch_size=batch_size, **settings)
    assert max(sizes) <= batch_size
    assert torch.equal(parts.robust, whole.robust)
    if settings["steps"] == 0:  # later on, rounding may turn the sign of a gradient that is all but zero
        torch.testing.assert_close(parts.adversarial, whole.adversarial, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.3)])
def test_the_problems_have_broken_and_robust_images_to_tell_apart(norm, eps):
    settings = {"norm": norm, "steps": 5, "step_size": eps / 2, "eps": eps, "restarts": 1, "random_start": True}
    settings["loss"] = "margin"
    robust, clean = [], []
    for seed in range(40):
        network, images, labels = problem(seed)
        robust += run(seed, network, images, labels, **settings).robust.tolist()
        clean += (network(images).argmax(1) == labels).tolist()
    assert 0.2 < np.mean(robust) < np.mean(clean) - 0.1 < 0.8


@given(seed=seeds, **settings_of_an_attack)
def test_adversarial_images_lie_in_the_ball_and_the_box_and_break_what_is_broken(seed, **settings):
    network, images, labels = problem(seed, dtype=torch.float32)
    attacked = run(seed, network, images, labels, **settings)
    assert attacked.adversarial.shape == images.shape
    assert lengths(settings["norm"], attacked.adversarial - images).max() <= settings["eps"] + ROUNDING
    assert attacked.adversarial.min() >= 0
    assert attacked.adversarial.max() <= 1
    assert torch.equal(network(attacked.adversarial).argmax(1) == labels, attacked.robust)


@given(seed=seeds, **settings_of_an_attack)
def test_every_iterate_lies_in_the_ball_and_the_box(seed, **settings):
    network, images, labels = problem(seed, count=1, dtype=torch.float32)
    shown = []
    network.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0].detach().clone()))
    run(seed, network, images, labels, **settings)
    assert 1 <= len(shown) <= 1 + settings["restarts"] * (settings["steps"] + 1)
    for iterate in shown:
        assert lengths(settings["norm"], iterate - images).max() <= settings["eps"] + ROUNDING
        assert iterate.min() >= 0
        assert iterate.max() <= 1


@given(seed=seeds, **settings_of_an_attack)
def test_more_restarts_break_no_fewer_images(seed, **settings):
    problem_ = problem(seed)
    robust = [run(seed, *problem_, **{**settings, "restarts": restarts}).robust for restarts in (1, 2, 4)]
    for fewer, more in itertools.pairwise(robust):
        assert not (more & ~fewer).any()


@given(seed=seeds, **settings_of_an_attack)
def test_an_image_misclassified_from_the_start_is_broken_as_it_is(seed, **settings):
    network, images, labels = problem(seed)
    wrong = network(images).argmax(1) != labels
    attacked = run(seed, network, images, labels, **settings)
    assert not attacked.robust[wrong].any()
    assert torch.equal(attacked.adversarial[wrong], images[wrong])


@given(seed=seeds, **settings_of_an_attack)
def test_what_happens_to_an_image_does_not_depend_on_the_others_being_broken(seed, **settings):
    """A label that makes the first image wrong from the start takes it out of the batch; the rest must not notice."""
    network, images, labels = problem(seed)
    other_labels = labels.clone()
    other_labels[0] = (network(images[:1]).argmax() + 1) % CLASSES
    one, other = (run(seed, network, images, each, **settings) for each in (labels, other_labels))
    assert torch.equal(one.robust[1:], other.robust[1:])
    torch.testing.assert_close(one.adversarial[1:], other.adversarial[1:], rtol=0, atol=1e-9)


class BrokenOnTheWay(nn.Module):
    """Of one pixel: class 0 but in (0.55, 0.65), where it is class 1; the loss of class 0 rises with the pixel."""

    def forward(self, x):
        pixel = x.flatten(1)
        return torch.cat([1 - pixel - 2 * ((pixel > 0.55) & (pixel < 0.65)), torch.zeros_like(pixel)], 1)


@each_loss
def test_an_image_that_an_iterate_breaks_is_broken_though_the_last_iterate_is_right(loss):
    network, images, labels = BrokenOnTheWay(), torch.full((1, 1, 1, 1), 0.5), torch.zeros(1).long()
    last = images + 0.2  # where two steps of 0.1 lead
    assert network(images).argmax() == network(last).argmax() == 0
    options = {"step_size": 0.1, "random_start": False, "loss": loss}
    for steps in (1, 2, 5):
        attacked = attack(network, images, labels, threat(0.2), steps=steps, **options)
        assert attacked.robust.tolist() == [False]
        assert attacked.adversarial.item() == pytest.approx(0.6)
    assert attack(network, images, labels, threat(0.2), steps=0, **options).robust.tolist() == [True]


def test_the_random_start_itself_may_break_an_image():
    images, labels = torch.full((200, 1, 1, 1), 0.5), torch.zeros(200).long()
    attacked = attack(BrokenOnTheWay(), images, labels, threat(0.2), steps=0, step_size=0.1)
    assert 20 < (~attacked.robust).sum() < 80  # a quarter of the ball
    assert ((attacked.adversarial[~attacked.robust] - 0.6).abs() < 0.05).all()


@given(seed=seeds, eps=st.sampled_from([0.01, 0.1]))
def test_one_step_of_eps_from_the_image_is_fgsm(seed, eps):
    network, images, labels = problem(seed)
    attacked = attack(network, images, labels, threat(eps), steps=1, step_size=eps, random_start=False)
    leaf = images.clone().requires_grad_()
    nn.functional.cross_entropy(network(leaf), labels).backward()
    fgsm = (images + eps * leaf.grad.sign()).clip(0, 1)
    right = network(images).argmax(1) == labels
    torch.testing.assert_close(attacked.adversarial[right], fgsm[right], rtol=0, atol=1e-12)
    assert torch.equal(attacked.robust, right & (network(fgsm).argmax(1) == labels))


def test_an_image_whose_gradient_is_zero_stays_where_it_is_in_l2():
    images, labels = torch.rand(3, 1, 2, 2), torch.zeros(3).long()
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    flat[1].weight.data.zero_(), flat[1].bias.data.copy_(torch.tensor([1.0, 0.0]))
    attacked = attack(flat, images, labels, threat(0.5, norm="l2"), steps=3, step_size=0.1, random_start=False)
    assert attacked.robust.all()
    assert torch.equal(attacked.adversarial, images)


def test_an_attack_leaves_the_network_and_global_random_numbers_as_they_were():
    network, images, labels = problem(0)
    kept, before = images.clone(), torch.get_rng_state()
    attack(network, images, labels, threat(0.1), steps=3, step_size=0.05, restarts=2)
    assert {parameter.grad for parameter in network.parameters()} == {None}
    assert not network.training
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), before)


def test_broken_images_cost_nothing_more():
    network, images, labels = problem(3, count=40)
    sizes = []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    attacked = attack(network, images, labels, threat(0.3), steps=8, step_size=0.05, restarts=2)
    assert sizes[0] == 40
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert attacked.robust.sum() <= sizes[-1] < 40


@given(seed=seeds, count=st.integers(1, 6), classes=st.integers(2, 11))
def test_the_losses_are_those_of_the_naive_formulas(seed, count, classes):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 5, (count, classes))
    labels = random.integers(0, classes, count)
    expected_margin = [max(z[j] for j in range(classes) if j != y) - z[y] for z, y in zip(logits, labels, strict=True)]
    expected_entropy = [np.log(np.exp(z).sum()) - z[y] for z, y in zip(logits, labels, strict=True)]
    given_ = torch.from_numpy(logits), torch.from_numpy(labels)
    np.testing.assert_allclose(margin(*given_).numpy(), expected_margin, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cross_entropy(*given_).numpy(), expected_entropy, rtol=1e-9, atol=1e-12)


def test_the_margin_is_positive_exactly_where_an_image_is_misclassified():
    logits = torch.randn(500, CLASSES, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(500) % CLASSES
    assert torch.equal(margin(logits, labels) > 0, logits.argmax(1) != labels)


def test_the_margin_s_gradient_raises_the_best_wrong_logit_and_lowers_the_right_one():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 2.0, 4.0]], requires_grad=True)
    margin(logits, torch.tensor([0, 0])).sum().backward()
    assert logits.grad.tolist() == [[-1, 0, 1, 0], [-1, 1, 0, 0]]
