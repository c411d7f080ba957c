"""GAT, NuAT and NuAT2 against naive implementations, and the norm that the latter two share."""

import pytest
import torch
from reference import (
    EPOCHS,
    EPS,
    Reference,
    assert_agrees,
    assert_same_networks,
    clip_to_ball,
    cross_entropy,
    cut_to_box,
    minibatches,
    new_network,
    position,
    trained,
)

from experiment.effort import Effort
from experiment.threats.linf import Linf
from methods import Batch, load
from methods.losses import nuclear_norm
from training.learner import Learner

pytestmark = pytest.mark.usefixtures("float64")


def squared_l2(clean, attacked):
    total = 0.0
    for p, q in zip(clean, attacked, strict=True):
        total = total + ((p.exp() / p.exp().sum() - q.exp() / q.exp().sum()) ** 2).sum()
    return total / len(clean)


def nuclear(clean, attacked):
    return torch.linalg.svd(clean - attacked, full_matrices=False).S.sum() / 64


def guided(steps, step_size, distance, strength, in_attack, clean_mode, crafting_batch_norm="eval"):
    """strength: lambda by epoch; in_attack: whether minibatch and step have it; clean_mode: of the attack's clean pass.

    The last forward is of the attacked images; the authors' is of the clean ones.
    """
    reference = Reference()
    network = reference.network
    normalise, convolution = network.first_layer

    def train_minibatch(images, labels):
        weight = strength(reference.minibatch // 2)
        network.train(clean_mode == "train")
        clean = network(images).detach()
        shown = cut_to_box(images + 0.5 * EPS * reference.uniform_noise(images).sign())
        network.train(crafting_batch_norm == "train")
        for step in range(steps):
            normalised = normalise(shown).detach().requires_grad_()
            logits = network.rest(convolution(normalised))
            cost = cross_entropy(logits, labels)
            if in_attack(reference.minibatch % 2, step):
                cost = cost + weight * distance(clean, logits)
            (gradient,) = torch.autograd.grad(cost, normalised)
            reference.seen["attack"] = gradient.abs().sum().item()
            delta = clip_to_ball(cut_to_box(shown + step_size * gradient.sign()) - images)
            shown = cut_to_box(images + delta)
        network.train()
        network.zero_grad()
        normalised = normalise(shown).detach().requires_grad_()
        clean = network(images)
        reference.logits = network.rest(convolution(normalised))
        reference.loss = cross_entropy(clean, labels) + weight * distance(clean, reference.logits)
        reference.loss.backward()
        reference.seen["update"] = normalised.grad.abs().sum().item()
        reference.note(labels)
        reference.update()

    return reference.train(train_minibatch)


def gat(steps, step_size, weight=10.0, late_factor=4.0, late_from=0.86, **options):
    def strength(epoch):
        return weight * late_factor if epoch / EPOCHS >= late_from else weight

    return guided(steps, step_size, squared_l2, strength, lambda minibatch, step: minibatch == 1, "train", **options)


def nuat(steps, step_size, weight=4.5, ramp=0.9, **options):
    def strength(epoch):
        return sum(weight / (ramp * EPOCHS) for _ in range(epoch))

    return guided(steps, step_size, nuclear, strength, lambda minibatch, step: minibatch == 1, "train", **options)


def nuat2(steps, step_size, crafting_batch_norm="eval"):
    def strength(epoch):
        return sum(4.0 / EPOCHS for _ in range(epoch))

    modes = crafting_batch_norm, crafting_batch_norm
    return guided(steps, step_size, nuclear, strength, lambda minibatch, step: step in (0, 2), *modes)


REFERENCES = {"gat": gat, "nuat": nuat, "nuat2": nuat2}
DEFAULTS = {
    "gat": {"weight": 10.0, "late_factor": 4.0, "late_from": 0.86},
    "nuat": {"weight": 4.5, "ramp": 0.9, "divisor": 64.0},
    "nuat2": {"weight": 4.0, "ramp": 1.0, "divisor": 64.0},
}
CASES = {
    "gat": ("gat", Effort(1, EPS), {}),
    "gat from the second epoch on": ("gat", Effort(1, EPS), {"weight": 3.0, "late_from": 0.25}),
    "gat, 2 steps, batch norm in training mode": ("gat", Effort(2, 0.3 * EPS), {"crafting_batch_norm": "train"}),
    "gat, no step": ("gat", Effort(0, EPS), {}),
    "nuat": ("nuat", Effort(1, EPS), {}),
    "nuat, 3 steps and a short ramp": ("nuat", Effort(3, 0.3 * EPS), {"weight": 30.0, "ramp": 0.5}),
    "nuat2": ("nuat2", Effort(2, EPS), {}),
    "nuat2, 3 steps, batch norm in training mode": ("nuat2", Effort(3, EPS), {"crafting_batch_norm": "train"}),
}


@pytest.mark.parametrize("magnitude", [None, "update", "attack"])
@pytest.mark.parametrize(("method", "effort", "options"), CASES.values(), ids=CASES)
def test_weights_statistics_and_magnitudes_are_those_of_the_specification(method, effort, options, magnitude):
    reference = REFERENCES[method](effort.steps, effort.step_size, **options)
    options = {"crafting_batch_norm": "eval"} | DEFAULTS[method] | options
    if magnitude == "attack" and not effort.steps:
        reference.magnitude["attack"] = [0.0] * 4
    assert_agrees(reference, method, effort, magnitude, **options)


def test_the_references_tell_the_variants_apart():
    variants = [
        (gat(1, EPS), gat(1, EPS, late_from=0.25)),
        (gat(1, EPS), gat(1, EPS, crafting_batch_norm="train")),
        (nuat(1, EPS), nuat(1, EPS, weight=4.0)),
        (nuat(2, EPS, weight=4.0, ramp=1.0), nuat2(2, EPS)),
    ]
    for one, other in variants:
        pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
        assert max((a - b).abs().max().item() for a, b in pairs) > 1e-5


def one_minibatch(method, network=None, **options):
    """The network's weights' gradients at the last minibatch, in epoch 1, and its images and labels."""
    network = network or new_network()
    learner, found = Learner(network, torch.optim.SGD(network.parameters(), lr=1.0), crafting_batch_norm="eval"), []
    (images, labels), *_ = reversed(list(minibatches()))
    learner.begin_batch(labels, lambda update: 0.0)
    learner.update = lambda steps: found.extend(weight.grad for weight in network.parameters())
    trainee = load(method)(Linf(EPS, torch.Generator().manual_seed(0)), **DEFAULTS[method] | options)
    scalars = {name: torch.tensor(value).double() for name, value in trainee.schedule(position(3)).items()}
    assert bool(scalars["every_second"]) == bool(trainee.weight)
    trainee.train_batch(learner, Batch(images, labels, None, None, None, scalars), Effort(1, EPS))
    return found, images, labels


def clean_gradients(network, images, labels):
    return torch.autograd.grad(cross_entropy(network(images), labels), list(network.parameters()))


@pytest.mark.parametrize("method", REFERENCES)
def test_without_lambda_the_weights_get_the_clean_cross_entropy_s_gradient(method):
    found, images, labels = one_minibatch(method, weight=0.0)
    torch.testing.assert_close(found, list(clean_gradients(new_network(), images, labels)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", REFERENCES)
def test_where_all_outputs_are_equal_lambda_adds_no_gradient_and_nothing_is_nan(method):
    """A network that gives every image the same logits, as one does whose last layer is 0."""

    def constant():
        network = new_network()
        torch.nn.init.zeros_(network.classifier.weight)
        return network

    found, images, labels = one_minibatch(method, constant())
    torch.testing.assert_close(found, list(clean_gradients(constant(), images, labels)), rtol=0, atol=1e-12)


def test_label_smoothing_is_in_the_cross_entropies_and_in_no_distance():
    found, images, labels = one_minibatch("gat", weight=0.0, label_smoothing=0.3)
    network = new_network()
    smoothed = torch.nn.functional.cross_entropy(network(images), labels, label_smoothing=0.3)
    torch.testing.assert_close(found, list(torch.autograd.grad(smoothed, list(network.parameters()))))


def test_of_the_divisor_as_of_the_weight_only_the_quotient_matters():
    effort = Effort(1, EPS)
    one, _ = trained("nuat", effort, crafting_batch_norm="eval", weight=9.0, ramp=0.9, divisor=128.0)
    other, _ = trained("nuat", effort, crafting_batch_norm="eval", weight=4.5, ramp=0.9, divisor=64.0)
    assert_same_networks(one, other)


# -- the nuclear norm -------------------------------------------------------------------------------------------------


def norm_and_gradient(matrix):
    matrix = matrix.clone().requires_grad_()
    norm = nuclear_norm(matrix)
    return norm.detach(), torch.autograd.grad(norm, matrix)[0]


def matrix_of(rows, columns, smallest=1e-3, dtype=torch.float64):
    """A random matrix whose singular values are between 1 and `smallest`, the least 0 where there is more than one."""
    generator = torch.Generator().manual_seed(rows)
    left, right = (torch.randn(n, n, generator=generator, dtype=torch.float64) for n in (rows, columns))
    left, right = torch.linalg.qr(left).Q, torch.linalg.qr(right).Q
    count = min(rows, columns)
    values = torch.logspace(0, torch.tensor(smallest).log10().item(), count, dtype=torch.float64)
    return (left[:, :count] * values @ right[:, :count].mT).to(dtype)


@pytest.mark.parametrize("shape", [(6, 10), (3, 10), (64, 10), (64, 100), (1, 10), (10, 1)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_it_and_its_gradient_are_those_of_a_singular_value_decomposition(shape, scale):
    matrix = scale * matrix_of(*shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    norm, gradient = norm_and_gradient(matrix)
    torch.testing.assert_close(norm, values.sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, left @ right, rtol=0, atol=1e-11)


def test_float32_logits_get_float32_s_precision():
    matrix = matrix_of(64, 10, smallest=1e-5, dtype=torch.float32)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    norm, gradient = norm_and_gradient(matrix)
    assert norm.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(norm.double(), values.sum(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), left @ right, rtol=0, atol=1e-6)


def test_where_singular_values_are_zero_so_are_the_gradient_s():
    """Equal images, and a minibatch that moves along one direction only; the gradient of 0 is 0."""
    rows = torch.ones(6, 1, dtype=torch.float64) * torch.arange(10)
    norm, gradient = norm_and_gradient(rows)
    torch.testing.assert_close(norm, rows.norm(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, rows / rows.norm(), rtol=0, atol=1e-12)
    zero = torch.zeros(6, 10, dtype=torch.float64)
    assert [value.abs().sum() for value in norm_and_gradient(zero)] == [0, 0]


def test_its_gradient_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(nuclear_norm, matrix_of(4, 5, smallest=0.1).requires_grad_())
