"""Each method against a second, naive implementation of its algorithm, in float64, written here from the papers.

A reference uses nothing of the suite but the network: its own clipping, its own SGD, `backward()` into `.grad`. Both
sides draw noise from generators of their own with the same seed. Three minibatches, the last one short as at the end
of an epoch, and a full one after it.
"""

import copy

import pytest
import torch

from benchmarks.usual import batch_of
from experiment import models
from experiment.effort import Effort
from experiment.threats.linf import Linf
from methods import load
from training.learner import Learner

EPS, SEED, MOMENTUM, WEIGHT_DECAY = 0.1, 3, 0.9, 5e-4
BATCHES = (6, 6, 3, 6)  # images in each minibatch


@pytest.fixture(autouse=True)
def _float64_throughout(monkeypatch):
    """Keep float64 where float32 is asked for: rounding would flip signs of gradients and hide small errors."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)


def new_network():
    network = models.build("small_cnn", classes=10, shape=(3, 8, 8), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3), seed=0)
    return network.double().train()


def minibatches():
    generator = torch.Generator().manual_seed(1)
    for size in BATCHES:
        images = torch.rand(size, 3, 8, 8, generator=generator, dtype=torch.float64)
        images[images < 0.2], images[images > 0.8] = 0, 1  # so that the box cuts perturbations, or is just touched
        yield images, torch.randint(0, 10, (size,), generator=generator)


def rate(minibatch, update):
    return 0.05 / (1 + minibatch + 0.5 * update)


def trained(method, effort, magnitude=None, crafting_batch_norm="train", **options):
    """Network and statistics of each minibatch after training with the suite's own code."""
    network = new_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    learner = Learner(network, optimizer, magnitude=magnitude, crafting_batch_norm=crafting_batch_norm)
    method = load(method)(Linf(EPS, torch.Generator().manual_seed(SEED)), **options)
    statistics = []
    for index, (images, labels) in enumerate(minibatches()):
        learner.begin_batch(labels, lambda update, index=index: rate(index, update))
        method.train_batch(learner, batch_of(images, labels), effort)
        statistics.append(learner.batch_statistics().tolist())
    return network, statistics


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


def cross_entropy(logits, labels):
    probabilities = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -probabilities[range(len(labels)), labels].log().mean()


class Reference:
    """The network, SGD with momentum and weight decay, and what an observer notes of each minibatch."""

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


def pgd(steps, step_size, crafting_batch_norm="train"):
    """Madry et al., 2018, as in locuslab/robust_overfitting."""
    reference = Reference()

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images))
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            reference.observe(images + delta, labels, "attack")
            gradient = reference.gradients(images, delta, labels)
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def free(replays, step_size, carry=True):
    """Shafahi et al., 2019, as in ashafahi/free_adv_train: one buffer of perturbations for the whole run."""
    reference = Reference()
    buffer = torch.zeros(BATCHES[0], 3, 8, 8, dtype=torch.float64)

    def train_minibatch(images, labels):
        if not carry:
            buffer.zero_()
        count = len(images)
        for _ in range(replays):
            reference.observe(cut_to_box(images + buffer[:count]), labels, "update", "attack")
            gradient = reference.gradients(images, buffer[:count], labels, cut=True)
            reference.note(labels)
            buffer[:count] = clip_to_ball(buffer[:count] + step_size * gradient.sign())
            reference.update()
        del reference.statistics[-replays:-1]

    return reference.train(train_minibatch)


def fast(steps, step_size, start="random", crafting_batch_norm="train"):
    """Wong et al., 2020, as in locuslab/fast_adversarial; theirs is one step."""
    reference = Reference()
    previous = torch.zeros(BATCHES[0], 3, 8, 8, dtype=torch.float64)

    def train_minibatch(images, labels):
        delta = {
            "random": lambda: reference.uniform_noise(images),
            "zero": lambda: torch.zeros_like(images),
            "previous": lambda: previous[: len(images)].clone(),
        }[start]()
        delta = clip_to_box(images, delta)
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            reference.observe(images + delta, labels, "attack")
            gradient = reference.gradients(images, delta, labels)
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
        previous[: len(images)] = delta
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def n_fgsm(steps, step_size, noise, crafting_batch_norm="train"):
    """De Jorge et al., 2022, as in pdejorge/N-FGSM; theirs is one step."""
    reference = Reference()

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images, noise * EPS))
        reference.network.train(crafting_batch_norm == "train")
        for _ in range(steps):
            reference.observe(images + delta, labels, "attack")
            gradient = reference.gradients(images, delta, labels)
            delta = clip_to_box(images, delta + step_size * gradient.sign())
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


def yopo(m, step_size, inner_steps, divide_lr):
    """Zhang et al., 2019, as in a1600012888/YOPO-You-Only-Propagate-Once (pre-res18.yopo-5-3)."""
    reference = Reference()
    network = reference.network
    first = {f"first_layer.{name}" for name, _ in network.first_layer.named_parameters()}

    def train_minibatch(images, labels):
        eta = reference.uniform_noise(images)  # not cut to the box
        total = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
        for _ in range(m):
            reference.observe(images + eta, labels, "update", "attack")
            network.zero_grad()
            hidden = network.first_layer(images + eta)
            hidden.retain_grad()
            reference.logits = network.rest(hidden)
            reference.loss = cross_entropy(reference.logits, labels)
            reference.loss.backward()
            for name, parameter in network.named_parameters():
                total[name] += parameter.grad
            p = -hidden.grad
            for _ in range(inner_steps):
                shown = cut_to_box(images + eta).requires_grad_()
                (gradient,) = torch.autograd.grad((network.first_layer(shown) * p).sum(), shown)
                gradient = gradient * in_box(images + eta)
                eta = clip_to_box(images, clip_to_ball(eta - step_size * gradient.sign()))
            network.zero_grad()
            (-(network.first_layer(cut_to_box(images + eta)) * p).sum()).backward()
            for name in first:
                total[name] += network.get_parameter(name).grad
        reference.note(labels)
        lr = rate(reference.minibatch, 0)
        reference.sgd(total, lr / m if divide_lr else lr)

    return reference.train(train_minibatch)


def deat(replays, step_size):
    """Wang et al., 2021, as in TrustAI/DEAT (CIFAR): noise anew for each minibatch, an update at every replay."""
    reference = Reference()

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images))
        for _ in range(replays):
            reference.observe(images + delta, labels, "update", "attack")
            gradient = reference.gradients(images, delta, labels)
            reference.note(labels)
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
            reference.update()
        del reference.statistics[-replays:-1]

    return reference.train(train_minibatch)


# -- the comparisons --------------------------------------------------------------------------------------------------

REFERENCES = {"pgd": pgd, "free": free, "fast": fast, "n_fgsm": n_fgsm, "yopo": yopo, "deat": deat}
CASES = {
    "pgd, 2 steps": ("pgd", Effort(2, 0.04), {}),
    "pgd, no step": ("pgd", Effort(0, 0.04), {}),
    "pgd, batch norm in evaluation mode": ("pgd", Effort(2, 0.04), {"crafting_batch_norm": "eval"}),
    "free": ("free", Effort(3, EPS), {"carry": True}),
    "free, one replay": ("free", Effort(1, EPS), {"carry": True}),
    "free, not carried": ("free", Effort(3, EPS), {"carry": False}),
    "fast from noise": ("fast", Effort(1, 1.25 * EPS), {"start": "random"}),
    "fast from zero": ("fast", Effort(1, 1.25 * EPS), {"start": "zero"}),
    "fast from the last perturbation": ("fast", Effort(1, 0.4 * EPS), {"start": "previous"}),
    "fast, no step": ("fast", Effort(0, 1.25 * EPS), {"start": "random"}),
    "fast, 2 steps, batch norm in evaluation mode": (
        "fast",
        Effort(2, 0.6 * EPS),
        {"start": "random", "crafting_batch_norm": "eval"},
    ),
    "n-fgsm": ("n_fgsm", Effort(1, EPS), {"noise": 2.0}),
    "n-fgsm, no step": ("n_fgsm", Effort(0, EPS), {"noise": 2.0}),
    "n-fgsm without noise": ("n_fgsm", Effort(1, EPS), {"noise": 0.0}),
    "n-fgsm, 2 steps, batch norm in evaluation mode": (
        "n_fgsm",
        Effort(2, 0.5 * EPS),
        {"noise": 2.0, "crafting_batch_norm": "eval"},
    ),
    "yopo-2-2": ("yopo", Effort(2, 0.03), {"inner_steps": 2, "divide_lr": True}),
    "yopo-3-2, rate not divided": ("yopo", Effort(3, 0.03), {"inner_steps": 2, "divide_lr": False}),
    "deat": ("deat", Effort(3, 1.25 * EPS), {}),
    "deat, one replay": ("deat", Effort(1, 1.25 * EPS), {}),
}
each_case = pytest.mark.parametrize(("method", "effort", "options"), CASES.values(), ids=CASES)


def assert_same_networks(network, expected):
    expected = expected.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.fault("version")
@each_case
def test_weights_and_batch_norm_statistics_are_those_of_the_paper_s_algorithm(method, effort, options):
    network, statistics = trained(method, effort, **options)
    reference, start = REFERENCES[method](effort.steps, effort.step_size, **options), new_network().state_dict()
    assert_same_networks(network, reference.network)
    assert not any(torch.equal(value, start[name]) for name, value in network.named_parameters())
    for (loss, correct, magnitude), (expected_loss, expected_correct) in zip(
        statistics, reference.statistics, strict=True
    ):
        assert loss == pytest.approx(expected_loss, rel=1e-9)
        assert correct == expected_correct
        assert magnitude == 0  # nobody asked for it


@pytest.mark.parametrize("source", ["update", "attack"])
@each_case
def test_the_magnitude_is_the_sum_of_absolute_gradients_for_the_normalised_input(method, effort, options, source):
    network, statistics = trained(method, effort, magnitude=source, **options)
    reference = REFERENCES[method](effort.steps, effort.step_size, **options)
    assert [row[2] for row in statistics] == pytest.approx(reference.magnitude[source], rel=1e-9)
    assert_same_networks(network, reference.network)  # to measure it changes nothing


def test_the_references_tell_the_variants_of_a_method_apart():
    variants = [
        (free(3, EPS), free(3, EPS, carry=False)),
        (yopo(2, 0.03, 2, divide_lr=True), yopo(2, 0.03, 2, divide_lr=False)),
        (pgd(2, 0.04), pgd(2, 0.04, "eval")),
        (fast(1, 0.4 * EPS, "previous"), fast(1, 0.4 * EPS, "zero")),
        (free(3, EPS, carry=False), deat(3, EPS)),
        (n_fgsm(1, EPS, 1.0), fast(1, EPS)),  # the projection
        (n_fgsm(1, EPS, 2.0), n_fgsm(1, EPS, 1.0)),
    ]
    for one, other in variants:
        pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
        assert max((a - b).abs().max().item() for a, b in pairs) > 1e-5
