"""LAW and PGK, which average weights where their attacks work, against second, naive implementations in float64.

Most labels are what the first network says, so that there is accuracy to lose, and a gate that opens and shuts.
"""

import copy

import pytest
import reference
import torch
from reference import (
    EPS,
    Reference,
    assert_agrees,
    assert_same_networks,
    clip_to_ball,
    clip_to_box,
    new_network,
    places,
    position,
    relaxed,
    softmax,
    taught,
)

from experiment.effort import Effort
from methods.gates import kept_accuracy
from training.averaging import WeightAverage

pytestmark = pytest.mark.usefixtures("float64", "learnt_labels")


@pytest.fixture
def learnt_labels(monkeypatch, float64):
    """All but those of each minibatch's last image."""
    drawn = list(reference.minibatches())
    for images, labels in drawn:
        labels[:-1] = new_network()(images).argmax(1)[:-1]
    monkeypatch.setattr(reference, "minibatches", lambda: iter(drawn))


def right(logits, labels):
    return sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True))


class AveragingReference(Reference):
    """The average is at first of the initial weights; `decays` are its updates', a None for each that was left out.

    begun: updates that are counted before the first.
    """

    def __init__(self, begun=0):
        super().__init__()
        self.begun = begun
        self.average, self.decays = copy.deepcopy(self.network).eval(), []

    def take_in(self, decay):
        """Weights and running statistics as they are after the update."""
        made = self.begun + len([one for one in self.decays if one is not None])
        self.decays.append(min(decay, (made + 1) / (made + 10)))
        now = self.network.state_dict()
        for name, kept in self.average.state_dict().items():
            mixed = self.decays[-1] * kept + (1 - self.decays[-1]) * now[name]
            kept.copy_(mixed if kept.is_floating_point() else now[name])

    def leave_out(self):
        self.decays.append(None)

    def minimise(self, loss, attacked, logits, labels):
        """attacked: a leaf, through which the loss goes last."""
        self.network.zero_grad()
        attacked.grad = None
        self.loss, self.logits = loss, logits
        loss.backward()
        self.see("update", attacked.grad)
        self.note(labels)
        self.update()


def moved(images, delta, gradient, step_size):
    return clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))


def law(steps, step_size, label_weight, lipschitz, offset, gate, average_decay, attack_on, crafting_batch_norm="train"):
    reference = AveragingReference()
    network = reference.network

    def logits_and_features(images):
        features = network.body(network.first_layer(images))
        return network.classifier(features), features

    def train_minibatch(images, labels):
        noise = clip_to_box(images, reference.uniform_noise(images))
        delta = clip_to_box(images, EPS / 2 * noise.sign())
        network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            attacked = (images + delta).requires_grad_()
            logits = network(attacked)
            relaxed(softmax(logits) if attack_on == "probabilities" else logits, labels, 1).backward()
            reference.see("attack", attacked.grad)
            delta = moved(images, delta, attacked.grad, step_size)
        network.train()
        attacked = (images + delta).requires_grad_()
        (clean, clean_features), (logits, features) = logits_and_features(images), logits_and_features(attacked)
        outputs = (softmax(logits) - softmax(clean)) ** 2
        hidden = (softmax(features) - softmax(clean_features)) ** 2
        slope = (outputs.mean() + hidden.mean()) / ((delta**2).mean() + offset)
        loss = relaxed(logits, labels, label_weight) + lipschitz * slope
        reference.minimise(loss, attacked, logits, labels)
        if right(logits, labels) < gate * max(right(clean, labels), 1):
            reference.take_in(average_decay)
        else:
            reference.leave_out()

    return reference.train(train_minibatch)


LAW = {
    "label_weight": 0.7,
    "lipschitz": 12.0,
    "offset": 0.125,
    "gate": 0.82,
    "average_decay": 0.999,
    "attack_on": "probabilities",
}
LAW_CASES = {
    "the authors' CIFAR-10": (1, EPS, {}),
    "two steps": (2, 0.05, {}),
    "as for CIFAR-100": (2, 0.05, {"label_weight": 0.5, "lipschitz": 42.0, "gate": 0.55, "average_decay": 0.15}),
    "an attack on logits": (1, EPS, {"attack_on": "logits", "offset": 0.01}),
    "no term": (1, EPS, {"lipschitz": 0.0, "label_weight": 1.0}),
    "crafting in evaluation mode": (2, 0.05, {"crafting_batch_norm": "eval"}),
    "an average of all": (1, EPS, {"gate": 1000.0, "average_decay": 0.2}),
}


@pytest.mark.parametrize("magnitude", [None, "update", "attack"])
@pytest.mark.parametrize(("steps", "step_size", "options"), LAW_CASES.values(), ids=LAW_CASES)
def test_law(steps, step_size, options, magnitude):
    expected = law(steps, step_size, **LAW | options)
    assert_agrees(expected, "law", Effort(steps, step_size), magnitude, **LAW | options)


def test_a_minibatch_that_law_leaves_out_of_the_average_is_none_of_its_first_updates():
    """So the second that it takes in, the last of four, keeps 2/11 of the average, and not 4/13."""
    assert law(2, 0.05, **LAW).decays == [1 / 10, None, None, 2 / 11]


def test_an_average_of_law_that_takes_nothing_in_is_the_initial_network():
    learner, _ = taught("law", Effort(1, EPS), **LAW | {"gate": 0.0})
    initial = new_network()
    for name, value in learner.average.network.state_dict().items():
        assert torch.equal(value, initial.state_dict()[name])
    assert not torch.equal(learner.network.classifier.weight, initial.classifier.weight)


def test_an_average_of_law_that_keeps_nothing_is_the_network():
    learner, _ = taught("law", Effort(1, EPS), **LAW | {"gate": 1000.0, "average_decay": 0.0})
    assert_same_networks(learner.average.network, learner.network)


# -- PGK --------------------------------------------------------------------------------------------------------------


def pgk(steps, length, decay, label_weight, consistency, reset, gate, average_decay, aligned=False, begun=0):
    """As in FGSM_PGK_CIFAR10.py; a start and a momentum for each row of the training split."""
    reference = AveragingReference(begun)
    network = reference.network

    def craft(images, delta, labels):
        start = delta.clone().requires_grad_()
        logits = network(images + start)
        (gradient,) = torch.autograd.grad(relaxed(logits, labels, label_weight), start, retain_graph=True)
        reference.see("attack", gradient)
        return logits, gradient

    def train_minibatch(images, labels):
        now, rows = position(reference.minibatch), places(reference.minibatch)[0]
        if now.minibatch == 0 and now.epoch % reset == 0:
            reference.starts = EPS * reference.uniform_noise(torch.empty(FEW, 3, 8, 8)).sign()
            reference.momenta = torch.zeros(FEW, 3, 8, 8)
        start = torch.stack([reference.starts[row] for row in rows])
        before, gradient = craft(images, start, labels)
        delta = moved(images, start, gradient, length)
        for _ in range(steps - 1):
            delta = moved(images, delta, craft(images, delta, labels)[1], length)
        attacked = (images + delta).requires_grad_()
        after = network(attacked)
        ratio = right(after, labels) / max(right(before, labels), 1)
        loss = relaxed(after, labels, label_weight) + consistency * ((after - before) ** 2).mean()
        reference.minimise(loss, attacked, after, labels)
        for i, row in enumerate(rows):
            share = gradient[i] / gradient.abs().sum()
            reference.momenta[row] = (2 - ratio) * share + decay * reference.momenta[row]
            reference.starts[row] = moved(images[i], start[i], reference.momenta[row], length)
        reference.take_in(average_decay if ratio < gate else min(0.99999 * ratio / gate, 1))

    return reference.train(train_minibatch)


LATE = 2_000_000  # updates, after which the warm-up lets 0.9999955 be kept
FEW = 6  # images of the training split: each is met three times, which is when momentum first tells
PGK = {"decay": 0.3, "label_weight": 0.5, "consistency": 5.6, "reset": 10, "gate": 0.82, "average_decay": 0.999}
PGK |= {"aligned": False}
PGK_CASES = {
    "the authors' CIFAR-10": (1, EPS, {}, 0),
    "late in training": (1, 0.02, {}, LATE),
    "late, by a gate of a ratio that is met": (1, 0.02, {"gate": 1.0}, LATE),
    "late, by a low gate": (1, 0.05, {"gate": 0.01, "reset": 1}, LATE),
    "late, as for CIFAR-100": (
        *(1, 0.02),
        {"reset": 40, "label_weight": 0.8, "consistency": 1.0, "decay": 0.1, "gate": 0.9},
        LATE,
    ),
    "two steps, an average of little": (2, 0.05, {"average_decay": 0.05}, 0),
}


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.setattr(reference, "IMAGES", FEW)


def begin_late(monkeypatch, begun):
    def average_of(network):
        average = WeightAverage(network)
        average._updates.fill_(begun)
        return average

    monkeypatch.setattr(reference, "WeightAverage", average_of)


@pytest.mark.parametrize("magnitude", [None, "update", "attack"])
@pytest.mark.parametrize(("steps", "length", "options", "begun"), PGK_CASES.values(), ids=PGK_CASES)
def test_pgk(steps, length, options, begun, magnitude, few_images, monkeypatch):
    begin_late(monkeypatch, begun)
    expected = pgk(steps, length, **PGK | options, begun=begun)
    assert_agrees(expected, "pgk", Effort(steps, length), magnitude, **PGK | options)


def test_the_average_of_pgk_all_but_stays_where_the_attack_fails(few_images):
    """Late in training: before it, keeping so much is what the warm-up does not let it."""
    usual = [1 / 10, 2 / 11, 3 / 12, 4 / 13]
    assert pgk(1, 0.02, **PGK).decays == usual
    by_a_high, by_a_low = (pgk(1, 0.02, **PGK | {"gate": gate}, begun=LATE).decays for gate in (1.0, 0.82))
    assert by_a_high == [0.999, 0.99999, 0.99999, 0.99999]
    assert by_a_low == [0.999, *((LATE + n) / (LATE + n + 9) for n in (2, 3, 4))]


def test_pgk_whose_attacks_fail_is_mep_with_its_constants(few_images, monkeypatch):
    monkeypatch.setattr("methods.pgk.method.kept_accuracy", lambda clean, attacked, labels: torch.ones(()))
    shared = {name: value for name, value in PGK.items() if name not in ("gate", "average_decay")}
    further = {"momentum": True, "converge_smooth": "none", "band": 0.03}
    expected, _ = taught("pgi", Effort(1, EPS), **shared, **further)
    found, _ = taught("pgk", Effort(1, EPS), **PGK)
    for name, value in found.network.state_dict().items():
        assert torch.equal(value, expected.network.state_dict()[name])


# -- gates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clean", "attacked", "ratio"), [(3, 2, 2 / 3), (4, 0, 0), (2, 3, 1.5), (0, 3, 3), (0, 0, 0)])
def test_accuracy_is_kept_in_proportion_and_without_any_in_proportion_to_one_image(clean, attacked, ratio):
    labels = torch.tensor([1, 2, 3, 4])
    one, other = (torch.eye(6)[torch.where(torch.arange(4) < count, labels, 0)] for count in (clean, attacked))
    assert kept_accuracy(one, other, labels).item() == pytest.approx(ratio)


def test_an_average_that_is_not_updated_stays_to_the_bit_and_is_updated_as_the_first_time():
    networks = new_network(), new_network()
    average, once = map(WeightAverage, networks)
    before = {name: value.clone() for name, value in average.network.state_dict().items()}
    for network in networks:
        network(next(reference.minibatches())[0])  # running statistics
    average.update(0.5, when=torch.tensor(False))
    for name, value in average.network.state_dict().items():
        assert torch.equal(value, before[name])
    average.update(0.5, when=torch.tensor(True))
    once.update(0.5)
    for name, value in average.network.state_dict().items():
        assert torch.equal(value, once.network.state_dict()[name])
    assert not torch.equal(average.network.body[0].running_mean, before["body.0.running_mean"])
