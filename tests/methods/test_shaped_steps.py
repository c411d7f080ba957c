"""Methods that shape a perturbation or its update by what the network makes of it, against naive references."""

import copy
import math

import pytest
import reference as references
import torch
from reference import (
    EPS,
    Reference,
    assert_agrees,
    assert_same_networks,
    clip_to_ball,
    clip_to_box,
    cross_entropy,
    new_network,
    perturbed,
    places,
    position,
)

from experiment.effort import Effort
from experiment.threats.linf import Linf
from methods import Batch, Position, Split, load
from training.learner import Learner

pytestmark = pytest.mark.usefixtures("float64", "labels_that_are_partly_right")


@pytest.fixture
def labels_that_are_partly_right(monkeypatch):
    """Of each minibatch, two labels in three are what the untrained network says: what a method does turns on it."""
    network, made = new_network(), []
    for images, labels in references.minibatches():
        said = network(images).argmax(1)
        said[::3] = labels[::3]
        made.append((images, said))
    monkeypatch.setattr(references, "minibatches", lambda: iter(made))


# -- SSAT --------------------------------------------------------------------------------------------------------------


def ssat(steps, step_size, parts, crafting_batch_norm="train"):
    """Kim et al., 2021, as in Harry24k/catastrophic-overfitting, image by image; theirs is one step."""
    reference = Reference()
    reference.cut, reference.clean = 0, 0

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images))
        reference.network.train(crafting_batch_norm == "train")
        wrong_at_the_start = [False] * len(labels)
        for step in range(steps):
            gradient = reference.gradients(images, delta, labels)
            if step == 0:
                wrong_at_the_start = (reference.logits.argmax(1) != labels).tolist()
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
        fooled = [reference.network(images + k * delta / parts).argmax(1) != labels for k in range(1, parts)]
        for i, wrong in enumerate(wrong_at_the_start):
            failing = [k for k in range(1, parts) if fooled[k - 1][i]]
            if wrong:
                delta[i] = 0
                reference.clean += 1
            elif failing:
                delta[i] *= min(failing) / parts
                reference.cut += 1
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


@pytest.mark.parametrize("crafting_batch_norm", ["train", "eval"])
@pytest.mark.parametrize(("steps", "parts"), [(1, 3), (1, 1), (2, 4), (0, 3)])
def test_ssat_is_the_paper_s_algorithm(steps, parts, crafting_batch_norm):
    options = {"parts": parts, "crafting_batch_norm": crafting_batch_norm}
    effort = Effort(steps, 1.25 * EPS)
    assert_agrees(ssat(steps, effort.step_size, **options), "ssat", effort, "update", **options)


def test_the_minibatches_have_images_of_each_of_ssat_s_kinds():
    reference = ssat(1, 1.25 * EPS, 3)
    assert reference.clean > 0
    assert reference.cut > 0
    assert reference.clean + reference.cut < 21


def test_ssat_of_one_part_is_fgsm_rs_but_for_the_images_that_are_wrong_where_it_starts():
    effort = Effort(1, 1.25 * EPS)
    (learner, batch, found), (*_, expected) = (
        perturbed("ssat", effort, parts=1),
        perturbed("fast", effort, start="random"),
    )
    start = perturbed("ssat", Effort(0, 1.0), parts=1)[2]
    right = learner.craft(batch.images + start).argmax(1) == batch.labels
    assert 0 < right.sum() < len(batch)
    assert torch.equal(found[right], expected[right])
    assert not found[~right].any()


# -- FAT ---------------------------------------------------------------------------------------------------------------


def fat(steps, step_size, tau, dynamic_tau, omega, crafting_batch_norm="train"):
    """Zhang et al., 2020, as in zjfheart/Friendly-Adversarial-Training (earlystop.py), image by image."""
    reference = Reference()
    reference.steps_taken = []

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images))
        reference.network.train(crafting_batch_norm == "train")
        budget = ([0, 1, 2, 2][position(reference.minibatch).epoch] if dynamic_tau else tau,) * len(labels)
        budget, stopped, taken = list(budget), set(), [0] * len(labels)
        for _ in range(steps):
            gradient = reference.gradients(images, delta, labels)
            noise = torch.zeros_like(images)
            if omega:
                noise.normal_(generator=reference.noise_generator)
            for i in set(range(len(labels))) - stopped:
                if reference.logits[i].argmax() != labels[i]:
                    if budget[i] == 0:
                        stopped.add(i)
                        continue
                    budget[i] -= 1
                moved = clip_to_ball(delta[i] + step_size * gradient[i].sign() + omega * noise[i])
                delta[i] = clip_to_box(images[i], moved)
                taken[i] += 1
        reference.steps_taken.append(taken)
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


FRIENDLY = {"tau": 1, "dynamic_tau": False, "omega": 0.01}


@pytest.mark.parametrize("crafting_batch_norm", ["train", "eval"])
@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (4, FRIENDLY),
        (4, FRIENDLY | {"tau": 0, "omega": 0.0}),
        (4, FRIENDLY | {"dynamic_tau": True}),
        (0, FRIENDLY),
    ],
)
def test_fat_is_the_paper_s_algorithm(steps, options, crafting_batch_norm):
    options, effort = {**options, "crafting_batch_norm": crafting_batch_norm}, Effort(steps, 0.25 * EPS)
    assert_agrees(fat(steps, effort.step_size, **options), "fat", effort, "update", **options)


def test_the_minibatches_have_images_that_fat_leaves_early_later_and_never():
    taken = sum(fat(4, 0.25 * EPS, **FRIENDLY).steps_taken, [])
    assert {1, 4} < set(taken)


def test_fat_s_tau_is_0_to_epoch_50_of_120_then_1_to_90_then_2_and_scales_with_the_run():
    method = load("fat")(Linf(EPS), **FRIENDLY | {"dynamic_tau": True})
    found = [method.schedule(Position(epoch, 120, 0, 1))["tau"] for epoch in range(120)]
    assert found == [0] * 50 + [1] * 40 + [2] * 30
    assert [method.schedule(Position(epoch, 12, 0, 1))["tau"] for epoch in range(12)] == [0] * 5 + [1] * 4 + [2] * 3
    assert [method.schedule(Position(0, epochs, 0, 1))["tau"] for epochs in (1, 2)] == [2, 1]


def test_fat_that_may_go_on_to_the_end_and_adds_no_noise_is_pgd():
    effort, options = Effort(4, 0.25 * EPS), FRIENDLY | {"omega": 0.0}
    pgd, _ = references.trained("pgd", effort, crafting_batch_norm="eval")
    whole, _ = references.trained("fat", effort, crafting_batch_norm="eval", **options | {"tau": 4})
    early, _ = references.trained("fat", effort, crafting_batch_norm="eval", **options)
    assert_same_networks(whole, pgd)
    with pytest.raises(AssertionError):
        assert_same_networks(early, pgd)


# -- SORA --------------------------------------------------------------------------------------------------------------


def gradient_at(network, images, labels):
    """Of the cross entropy for the images, in a pass that leaves the network as it is."""
    leaf = images.clone().requires_grad_()
    cross_entropy(copy.deepcopy(network)(leaf), labels).backward()
    return leaf.grad


def sora(steps, step_size):
    """Teymourian et al., 2026, as the specification has it; theirs is one step."""
    reference = Reference()
    rhos, agreement = [0.99], None

    def train_minibatch(images, labels):
        nonlocal agreement
        if agreement is not None:
            rhos.append(0.95 * rhos[-1] + 0.05 * max(-1, min(1, agreement)))
        length = step_size if rhos[-1] == 1 else min(1, 0.02 / (1 - rhos[-1])) * step_size
        delta = clip_to_box(images, reference.uniform_noise(images))
        for _ in range(steps):
            gradient = reference.gradients(images, delta, labels)
            u = torch.empty_like(images).uniform_(0, 1, generator=reference.noise_generator)
            delta = clip_to_box(images, delta + length * u * gradient.sign())
        after = gradient_at(reference.network, images + delta, labels)
        reference.learn(images, delta, labels)
        of_images = [(g.sign() * h).sum() / max(g.abs().sum(), 1e-12) for g, h in zip(gradient, after, strict=True)]
        agreement = sum(of_images).item() / len(labels)

    reference.train(train_minibatch).rhos = rhos
    return reference


@pytest.mark.parametrize("steps", [1, 2])
def test_sora_is_the_paper_s_algorithm(steps):
    effort = Effort(steps, 2 * EPS / steps)
    reference = sora(steps, effort.step_size)
    assert min(reference.rhos) < 0.98  # so that steps are shortened
    assert_agrees(reference, "sora", effort, "update")


@pytest.mark.parametrize(
    ("rho", "share"), [(1.0, 1), (1 + 2**-52, 1), (0.98, 1), (0.5, 0.04), (0.0, 0.02), (-1.0, 0.01)]
)
def test_sora_s_longest_step_is_2_eps_where_rho_is_1_and_shorter_as_it_falls(monkeypatch, rho, share):
    uniform, shown, network = torch.Tensor.uniform_, [], new_network()
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda t, *a, **k: uniform(t, *a, **k) if a else t.fill_(1))
    images, labels = next(references.minibatches())
    method, learner = load("sora")(Linf(EPS)), Learner(network, torch.optim.SGD(network.parameters(), lr=1.0))
    method.begin(Split(len(images), (3, 8, 8), 10, torch.device("cpu")))
    method.state["rho"].fill_(rho)
    network.first_layer.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].detach()))
    learner.begin_batch(labels, lambda update: 0.1)
    method.train_batch(learner, Batch(images, labels, *places(0)), Effort(1, 2 * EPS))
    start, attacked = shown
    expected = (start + share * 2 * EPS * gradient_at(new_network(), start, labels).sign()).clamp(0, 1)
    torch.testing.assert_close(attacked, expected, rtol=0, atol=1e-9)


# -- LAP ---------------------------------------------------------------------------------------------------------------

LAYERS = ["first_layer.1.weight", "body.2.weight", "body.5.weight", "classifier.weight"]


def lap(steps, step_size, host, beta, gamma, crafting_batch_norm="train"):
    """Lin et al., 2024, as in tmllab/2024_ICML_LAP: a real step of SGD, of which weights and velocity are put back."""
    reference = Reference()
    network, radius = reference.network, {"fgsm": 0, "fast": EPS, "n_fgsm": 2 * EPS}[host]

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images, radius) if radius else torch.zeros_like(images))
        network.train(crafting_batch_norm == "train")
        moved = {}
        for step in range(steps):
            gradient = reference.gradients(images, delta, labels)
            if step == 0:
                old = {name: weight.detach().clone() for name, weight in network.named_parameters()}
                velocity = dict(reference.velocity)
                reference.update()
                reference.velocity, reference.updates = velocity, 0
                for layer, name in enumerate(LAYERS, 1):
                    change = network.get_parameter(name).detach() - old[name]
                    along = old[name].norm() / (change.norm() + 1e-20) * change
                    moved[name] = (1 - (math.log(layer) / math.log(len(LAYERS))) ** gamma) * beta * along
                network.load_state_dict(old, strict=False)
            delta = delta + step_size * gradient.sign()
            delta = clip_to_box(images, delta if host == "n_fgsm" else clip_to_ball(delta))
        with torch.no_grad():
            for name, step in moved.items():
                network.get_parameter(name).add_(step)
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


@pytest.mark.parametrize("crafting_batch_norm", ["train", "eval"])
@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (1, {"host": "n_fgsm", "beta": 0.01, "gamma": 0.3}),
        (1, {"host": "fast", "beta": 0.02, "gamma": 1.0}),
        (1, {"host": "fgsm", "beta": 0.03, "gamma": 0.3}),
        (2, {"host": "fast", "beta": 0.03, "gamma": 0.3}),
        (0, {"host": "n_fgsm", "beta": 0.03, "gamma": 0.3}),
    ],
)
def test_lap_is_the_paper_s_algorithm(steps, options, crafting_batch_norm):
    options, effort = {**options, "crafting_batch_norm": crafting_batch_norm}, Effort(steps, EPS)
    assert_agrees(lap(steps, EPS, **options), "lap", effort, "update", **options)


@pytest.mark.parametrize(("host", "given"), [("n_fgsm", {"noise": 2.0}), ("fast", {"start": "random"}), ("fgsm", {})])
def test_lap_that_moves_nothing_is_its_host(host, given):
    effort = Effort(1, EPS)
    expected, _ = references.trained(host, effort, **given)
    for still in ({"beta": 0.0, "gamma": 0.3}, {"beta": 0.1, "gamma": 0.0}):
        assert_same_networks(references.trained("lap", effort, host=host, **still)[0], expected)
    with pytest.raises(AssertionError):
        assert_same_networks(references.trained("lap", effort, host=host, beta=0.1, gamma=0.3)[0], expected)
    assert load("lap")(Linf(EPS), host=host, **still).stays_in_ball == load(host).stays_in_ball


def test_lap_s_first_layer_moves_by_beta_the_last_by_nothing_and_its_layers_are_weights_of_more_dimensions():
    method = load("lap")(Linf(EPS), host="fast", beta=0.5, gamma=2.0)
    vector, matrix = torch.zeros(3), torch.zeros(3, 3)
    found = method.shares([matrix, vector, matrix, vector, matrix, matrix, vector])
    expected = [0.5, 0, 0.5 * (1 - 0.25), 0, 0.5 * (1 - (math.log(3) / math.log(4)) ** 2), 0, 0]
    assert found == pytest.approx(expected)
