"""LAW, which averages weights where its attack works, against a second, naive implementation in float64.

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


def softmax(rows):
    return rows.exp() / rows.exp().sum(1, keepdim=True)


def cross_entropy_to(logits, labels, weight):
    """Of a target with `weight` on the label and the rest in equal parts on the nine other classes."""
    total = 0
    for logs, label in zip(softmax(logits).log(), labels, strict=True):
        total = total - weight * logs[label] - (1 - weight) / 9 * (logs.sum() - logs[label])
    return total / len(labels)


def right(logits, labels):
    return sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True))


class AveragingReference(Reference):
    """The average is at first of the initial weights; `decays` are its updates', a None for each that was left out."""

    def __init__(self):
        super().__init__()
        self.average, self.decays = copy.deepcopy(self.network).eval(), []
        self.std = self.network.first_layer[0].std

    def take_in(self, decay):
        """Weights and running statistics as they are after the update."""
        made = len([one for one in self.decays if one is not None])
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
        self.seen["update"] = (attacked.grad * self.std).abs().sum().item()
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
            cross_entropy_to(softmax(logits) if attack_on == "probabilities" else logits, labels, 1).backward()
            reference.seen["attack"] = (attacked.grad * reference.std).abs().sum().item()
            delta = moved(images, delta, attacked.grad, step_size)
        network.train()
        attacked = (images + delta).requires_grad_()
        (clean, clean_features), (logits, features) = logits_and_features(images), logits_and_features(attacked)
        outputs = (softmax(logits) - softmax(clean)) ** 2
        hidden = (softmax(features) - softmax(clean_features)) ** 2
        slope = (outputs.mean() + hidden.mean()) / ((delta**2).mean() + offset)
        loss = cross_entropy_to(logits, labels, label_weight) + lipschitz * slope
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
