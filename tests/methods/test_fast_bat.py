"""Fast-BAT against a naive implementation, and its implicit gradient against finite differences."""

import pytest
import torch
from reference import (
    EPS,
    SEED,
    Reference,
    assert_agrees,
    clip_to_ball,
    clip_to_box,
    cross_entropy,
    minibatches,
    new_network,
    trained,
)

from experiment.effort import Effort
from experiment.threats.linf import Linf
from methods import Batch, load
from training.learner import Learner

pytestmark = pytest.mark.usefixtures("float64")
DEFAULTS = {"rate": 5000 / 255, "rate_beyond": 2000 / 255, "lmbda": 10.0}
TWO = Effort(2, EPS)


def fast_bat(rate, lmbda):
    """Zhang et al., 2022, as in NormalUhr/Fast_BAT, whose losses are minus the cross entropy, summed."""
    reference = Reference()
    network = reference.network

    def summed(images, delta, labels):
        return -cross_entropy(network(images + delta), labels) * len(labels)

    def train_minibatch(images, labels):
        z = clip_to_box(images, reference.uniform_noise(images)).requires_grad_()
        (gradient,) = torch.autograd.grad(summed(images, z, labels), z)
        delta = clip_to_box(images, clip_to_ball(z - rate * gradient)).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(summed(images, delta, labels), delta, create_graph=True)
        star = clip_to_box(images, clip_to_ball(delta - rate * gradient)).detach().requires_grad_()
        (outer,) = torch.autograd.grad(-summed(images, star, labels), star)
        least, most = torch.maximum(-images, torch.tensor(-EPS)), torch.minimum(1 - images, torch.tensor(EPS))
        free = (star > least + 1e-7) & (star < most - 1e-7)
        reference.free.append(free.double().mean().item())
        network.zero_grad()
        torch.where(free, gradient * outer / lmbda, 0.0).sum().backward()
        cross = {name: -weight.grad / len(images) for name, weight in network.named_parameters()}
        network.zero_grad()
        normalise, convolution = network.first_layer
        normalised = normalise(images + star).detach().requires_grad_()
        reference.logits = network.rest(convolution(normalised))
        reference.loss = cross_entropy(reference.logits, labels)
        reference.loss.backward()
        reference.seen["update"] = normalised.grad.abs().sum().item()
        reference.note(labels)
        for name, weight in network.named_parameters():
            weight.grad += cross[name]
        reference.update()

    reference.free = []
    return reference.train(train_minibatch)


@pytest.mark.parametrize("magnitude", [None, "update"])
@pytest.mark.parametrize("options", [{}, {"rate_beyond": 0.3, "lmbda": 0.1}], ids=["as published", "shorter steps"])
def test_weights_statistics_and_magnitudes_are_those_of_the_specification(options, magnitude):
    options = DEFAULTS | options
    reference = fast_bat(options["rate_beyond"], options["lmbda"])
    assert all(0 < share < 1 for share in reference.free)
    assert_agrees(reference, "fast_bat", TWO, magnitude, **options)


def test_the_reference_tells_its_parameters_apart():
    networks = [fast_bat(*pair).network for pair in ((0.3, 10.0), (0.3, 0.1), (0.4, 10.0))]
    for other in networks[1:]:
        pairs = zip(networks[0].parameters(), other.parameters(), strict=True)
        assert max((a - b).abs().max().item() for a, b in pairs) > 1e-5


@pytest.mark.parametrize(("eps", "used"), [(8 / 255, "rate"), (8.1 / 255, "rate_beyond")])
def test_the_rate_is_the_authors_for_the_radius(monkeypatch, eps, used):
    """The other rate makes no difference."""
    monkeypatch.setattr("reference.EPS", eps)
    other = ({"rate", "rate_beyond"} - {used}).pop()
    weights = [
        torch.cat([w.flatten() for w in trained("fast_bat", TWO, **DEFAULTS | changed)[0].parameters()])
        for changed in ({"rate": 0.2, "rate_beyond": 0.2}, {used: 0.2, other: 0.4}, {used: 0.4, other: 0.2})
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])


def test_the_implicit_gradient_is_that_of_finite_differences():
    """It is that of the second step's loss for the weights, differentiated along the direction that z may move in."""
    images, labels = next(iter(minibatches()))
    options = {"rate": 0.3, "rate_beyond": 0.3}

    def gradients(lmbda):
        network, shown = new_network(), []
        network.first_layer.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0].detach()))
        learner, found = Learner(network, torch.optim.SGD(network.parameters(), lr=1.0)), []
        learner.begin_batch(labels, lambda update: 0.0)
        learner.update = lambda: found.extend(weight.grad for weight in network.parameters())
        method = load("fast_bat")(Linf(EPS, torch.Generator().manual_seed(SEED)), lmbda=lmbda, **options)
        method.train_batch(learner, Batch(images, labels, None, None, None), TWO)
        return torch.cat([gradient.flatten() for gradient in found]), shown

    with_it, (_, second, star, _) = gradients(0.01)
    without, _ = gradients(1e300)
    network = new_network()

    def weight_gradient(shown):
        loss = cross_entropy(network(shown), labels) * len(labels)
        return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(network.parameters()))])

    star = star.requires_grad_()
    (outer,) = torch.autograd.grad(cross_entropy(network(star), labels) * len(labels), star)
    delta = (star - images).detach()
    held = (delta.abs() >= EPS - 1e-7) | (images + delta <= 1e-7) | (images + delta >= 1 - 1e-7)
    direction, h = torch.where(held, 0.0, outer / 0.01), 1e-8
    difference = (weight_gradient(second + h * direction) - weight_gradient(second - h * direction)) / (2 * h)
    expected = difference / len(images)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(with_it - without, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_where_every_component_is_held_the_update_is_that_of_the_last_perturbation_alone():
    """Steps so long that all end at the ball's or the box's edge: nothing is free to move with the weights."""
    far = {"rate": 1e6, "rate_beyond": 1e6}
    networks = [trained("fast_bat", TWO, **far, lmbda=lmbda)[0] for lmbda in (1e-6, 1e6)]
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(one, other)
