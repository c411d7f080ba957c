"""What independent references of methods are made of, in float64: minibatches, a network, SGD and an observer.

A reference uses nothing of the suite but the network: its own clipping, its own SGD, `backward()` into `.grad`.
"""

import copy

import pytest
import torch

from experiment import models
from experiment.threats.linf import Linf
from methods import Batch, Position, Split, load
from training.averaging import WeightAverage
from training.learner import Learner

EPS, SEED, MOMENTUM, WEIGHT_DECAY = 0.1, 3, 0.9, 5e-4
BATCHES = (6, 6, 3, 6)  # images in each minibatch; the first two are of epoch 0
IMAGES, EPOCHS = 12, 4  # of the training split, and of the run that is cut off after two of them


def new_network(seed=0):
    network = models.build(
        "small_cnn", classes=10, shape=(3, 8, 8), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3), seed=seed
    )
    return network.double().train()


def minibatches():
    """Of each minibatch the images and labels, whose rows, crops and flips `places` says."""
    generator = torch.Generator().manual_seed(1)
    for size in BATCHES:
        images = torch.rand(size, 3, 8, 8, generator=generator, dtype=torch.float64)
        images[images < 0.2], images[images > 0.8] = 0, 1  # so that the box cuts perturbations, or is just touched
        yield images, torch.randint(0, 10, (size,), generator=generator)


def places(minibatch):
    """Rows (B,) in a training split of IMAGES, each in both epochs; shifts (2, B) of crops; flips (B,)."""
    size, generator = BATCHES[minibatch], torch.Generator().manual_seed(minibatch)
    index = torch.arange(3, 3 + size) + 6 * minibatch
    shifts = torch.randint(0, 9, (2, size), generator=generator)
    return index % IMAGES, shifts, torch.rand(size, generator=generator) < 0.5


def position(minibatch):
    return Position(minibatch // 2, EPOCHS, minibatch % 2, 2)


def rate(minibatch, update):
    return 0.05 / (1 + minibatch + 0.5 * update)


def trained(method, effort, magnitude=None, crafting_batch_norm="train", **options):
    """Network and statistics of each minibatch after training with the suite's own code."""
    learner, statistics = taught(method, effort, magnitude, crafting_batch_norm, **options)
    return learner.network, statistics


def taught(method, effort, magnitude=None, crafting_batch_norm="train", **options):
    """The learner after that, which has the average of the weights where the method keeps one, and the statistics."""
    network = new_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    method = load(method)(Linf(EPS, torch.Generator().manual_seed(SEED)), **options)
    average = WeightAverage(network) if method.averages_weights else None
    modes = {"magnitude": magnitude, "crafting_batch_norm": crafting_batch_norm}
    learner = Learner(network, optimizer, average=average, **modes)
    if method.needs_teacher:
        method.teacher = new_network(seed=1).eval().requires_grad_(False)
    method.extra = method.modules(network)
    method.begin(Split(IMAGES, (3, 8, 8), 10, torch.device("cpu")))
    statistics = []
    for index, (images, labels) in enumerate(minibatches()):
        if position(index).minibatch == 0:
            method.begin_epoch(learner, position(index))
        scalars = {
            name: torch.tensor(value, dtype=torch.float64) for name, value in method.schedule(position(index)).items()
        }
        batch = Batch(images, labels, *places(index), scalars)
        method.before_batch(learner, batch, position(index))
        learner.begin_batch(labels, lambda update, index=index: rate(index, update))
        method.train_batch(learner, batch, effort)
        statistics.append(learner.batch_statistics().tolist())
    return learner, statistics


def perturbed(method, effort, **options):
    """A learner of the untrained network, the first minibatch, and the method's perturbation of it."""
    network = new_network()
    learner = Learner(network, torch.optim.SGD(network.parameters(), lr=1.0))
    images, labels = next(minibatches())
    method = load(method)(Linf(EPS, torch.Generator().manual_seed(SEED)), **options)
    scalars = {name: torch.tensor(value) for name, value in method.schedule(position(0)).items()}
    batch = Batch(images, labels, *places(0), scalars)
    learner.begin_batch(labels, lambda update: 0.1)
    return learner, batch, method.perturbation(learner, batch, effort).detach()


# -- the references ---------------------------------------------------------------------------------------------------


def clip_to_ball(delta):
    return torch.minimum(torch.maximum(delta, torch.full_like(delta, -EPS)), torch.full_like(delta, EPS))


def clip_to_box(images, delta):
    return torch.minimum(torch.maximum(delta, -images), 1 - images)


def in_box(values):
    """1 from 0 to 1, both included, and 0 outside: what cutting to the box is multiplied by in a backward."""
    return ((values >= 0) & (values <= 1)).to(values.dtype)


def cut_to_box(values):
    return torch.where(values < 0, 0.0, torch.where(values > 1, 1.0, values))


def softmax(logits):
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def cross_entropy(logits, labels):
    return -softmax(logits)[range(len(labels)), labels].log().mean()


def relaxed(logits, labels, true):
    """Cross entropy to `true` on the label and equal parts of the rest on the nine other classes."""
    total = 0
    for logs, label in zip(softmax(logits).log(), labels, strict=True):
        total = total - true * logs[label] - (1 - true) / 9 * (logs.sum() - logs[label])
    return total / len(labels)


class Reference:
    """The network, SGD with momentum and weight decay, and what an observer notes of each minibatch.

    average: of a method that averages weights, the averaged network.
    """

    average = None

    def __init__(self):
        self.network = new_network()
        self.noise_generator = torch.Generator().manual_seed(SEED)
        self.velocity = {name: torch.zeros_like(p) for name, p in self.network.named_parameters()}
        self.statistics, self.magnitude = [], {"update": [], "attack": []}

    def uniform_noise(self, images, radius=EPS):
        return torch.empty_like(images).uniform_(-radius, radius, generator=self.noise_generator)

    def train(self, train_minibatch):
        for index, (images, labels) in enumerate(minibatches()):
            self.minibatch, self.updates = index, 0
            self.seen = {"update": 0.0, "attack": 0.0}
            train_minibatch(images, labels)
            for which, magnitudes in self.magnitude.items():
                magnitudes.append(self.seen[which])
        return self

    def gradients(self, images, delta, labels, cut=False):
        """CE at images + delta; fills weights' .grad anew and returns the gradient for delta."""
        attacked = images + delta
        for parameter in self.network.parameters():
            parameter.grad = None
        shown = (cut_to_box(attacked) if cut else attacked).detach().requires_grad_()
        self.logits = self.network(shown)
        self.loss = cross_entropy(self.logits, labels)
        self.loss.backward()
        return shown.grad * in_box(attacked) if cut else shown.grad

    def observe(self, images, labels, *which):
        """Sum of |dL/d(normalised input)|, by making the normalised input a leaf."""
        network = copy.deepcopy(self.network)
        normalise, convolution = network.first_layer
        normalised = normalise(images).detach().requires_grad_()
        cross_entropy(network.rest(convolution(normalised)), labels).backward()
        for one in which:
            self.seen[one] = normalised.grad.abs().sum().item()

    def see(self, which, gradient):
        """Note the magnitude of a gradient for the images; that for the normalised ones is `std` times as large."""
        self.seen[which] = (gradient * self.network.std).abs().sum().item()

    def sgd(self, gradients, lr):
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                gradient = gradients[name] + WEIGHT_DECAY * parameter
                self.velocity[name] = MOMENTUM * self.velocity[name] + gradient
                parameter -= lr * self.velocity[name]
        self.updates += 1

    def update(self):
        gradients = {name: p.grad for name, p in self.network.named_parameters()}
        self.sgd(gradients, rate(self.minibatch, self.updates))

    def learn(self, images, delta, labels):
        """The pass that updates the weights, where a method has one beside those that move the perturbation."""
        self.network.train()
        self.observe(images + delta, labels, "update")
        self.gradients(images, delta, labels)
        self.note(labels)
        self.update()

    def note(self, labels):
        """Summed loss and correctly classified images of the minibatch's last pass."""
        right = sum(int(row.argmax() == label) for row, label in zip(self.logits, labels, strict=True))
        self.statistics.append([self.loss.item() * len(labels), right])


def assert_same_networks(network, expected):
    expected = expected.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


def assert_agrees(reference, method, effort, magnitude=None, **options):
    """The suite's method makes of the minibatches what a trained reference made of them.

    magnitude: "update" or "attack" where the gradient magnitudes are to agree too, as the reference observed them.
    """
    learner, statistics = taught(method, effort, magnitude, **options)
    network, start = learner.network, new_network().state_dict()
    assert_same_networks(network, reference.network)
    assert (learner.average is None) == (reference.average is None)
    if reference.average is not None:
        assert_same_networks(learner.average.network, reference.average)
    assert not any(torch.equal(value, start[name]) for name, value in network.named_parameters())
    for (loss, correct, _), (expected_loss, expected_correct) in zip(statistics, reference.statistics, strict=True):
        assert loss == pytest.approx(expected_loss, rel=1e-9)
        assert correct == expected_correct
    found = [row[2] for row in statistics]
    assert found == (pytest.approx(reference.magnitude[magnitude], rel=1e-9) if magnitude else [0] * len(found))
