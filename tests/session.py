"""A method at work, and what an observer outside its learner sees of it."""

import copy
from dataclasses import replace

import pytest
import torch

import methods
from benchmarks.usual import batch_of
from experiment import method_facts, models, plugins
from experiment.suite import Suite
from methods import Position, Split
from training.averaging import WeightAverage
from training.batches import seeded
from training.learner import Learner

EPOCHS, MINIBATCHES, BATCH = 4, 2, 4
SHAPE = (1, 8, 8)
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)

every_method = pytest.mark.parametrize("method", methods.names())
each_rule_of_every_method = pytest.mark.parametrize(
    ("method", "rule"), [(method, rule) for method in methods.names() for rule in method_facts.of(method).rules]
)
every_rule = pytest.mark.parametrize("rule", plugins.names("steps"))


def resolved(method, rule="constant", norm="linf"):
    """The specification of a run of a suite that says no more than the method and the rule."""
    suite = Suite.from_mapping(
        {
            "suite": "contract",
            "datasets": ["digits"],
            "network": {"name": "small_cnn"},
            "threat": {"norm": norm, "eps": 0.1},
            "training": {"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.01, "validation_images": 997},
            "evaluation": {"attacks": ["clean"]},
            "seeds": [0],
            "variants": variants_of({"label": "it", "method": method, "steps": {"rule": rule}}),
        }
    )
    return next(suite.runs()).spec


def variants_of(variant):
    """The variant, and after it what its method learns from, if anything."""
    if not method_facts.of(variant["method"]).needs_teacher:
        return [variant]
    return [{**variant, "teacher": "teacher"}, {"label": "teacher", "method": "pgd"}]


def build_network(name="small_cnn", shape=SHAPE):
    return models.build(name, classes=10, shape=shape, mean=MEAN[: shape[0]], std=STD[: shape[0]], seed=0)


def random_minibatches(shape=SHAPE, batch=BATCH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(MINIBATCHES):
        images = torch.rand(batch, *shape, generator=generator)
        images[images < 0.05], images[images > 0.95] = 0, 1
        yield images, torch.randint(0, 10, (batch,), generator=generator)


class Session:
    """A method with a learner, and what an observer outside the learner counts and sees of the network."""

    def __init__(self, method, rule="constant", network=None, device="cpu", norm="linf", shape=SHAPE):
        spec = resolved(method, rule, norm)
        eps = spec["threat"]["eps"]
        self.rule = plugins.of_spec("steps", spec["steps"], eps=eps, epochs=EPOCHS)
        noise = seeded("cpu", 0, 1) if device == "cpu" else None
        self.threat = plugins.of_spec("threat", spec["threat"], generator=noise)
        self.method = methods.load(method)(self.threat, **spec["options"])
        self.network = (network or build_network()).to(device).train()
        optimizer = torch.optim.SGD(self.network.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
        average = WeightAverage(self.network) if self.method.averages_weights else None
        self.learner = Learner(self.network, optimizer, magnitude=self.rule.magnitude_of, average=average)
        if self.method.needs_teacher:
            self.method.teacher = copy.deepcopy(network or build_network()).to(device).eval().requires_grad_(False)
        self.method.extra = self.method.modules(self.network)
        self.method.begin(Split(MINIBATCHES * BATCH, shape, 10, torch.device(device)))
        self.position = Position(0, EPOCHS, 0, MINIBATCHES)
        self.updates, self.rate = 0, 0.01
        self.counts = dict.fromkeys(["forwards", "backwards"], 0)
        self.shown = []  # to the network, since the minibatch began
        self.learner.try_update = self._try_update
        optimizer.register_step_post_hook(lambda *_: self._count_update())
        self.network.first_layer.register_forward_pre_hook(lambda _, inputs: self.shown.append(inputs[0].detach()))
        # A copy of the network, such as an average, copies its hooks; a method of this object would be copied with it.
        self.network.classifier.register_forward_hook(lambda *called: self._count_images(*called))

    def _count_update(self):
        self.updates += 1

    def _try_update(self, loss, delta):
        made = self.updates
        tried = Learner.try_update(self.learner, loss, delta)
        self.updates = made  # the optimizer's step is taken back
        return tried

    def _count_images(self, module, inputs, output):
        self.counts["forwards"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: self._count_backward(len(gradient)))

    def _count_backward(self, images):
        self.counts["backwards"] += images

    def batch(self, images, labels):
        """The minibatch as the method is handed it, with its schedule's numbers."""
        scalars = {name: torch.tensor(value).to(images) for name, value in self.method.schedule(self.position).items()}
        return replace(batch_of(images, labels), scalars=scalars)

    def train(self, images, labels, effort):
        self.train_on(self.batch(images, labels), effort)

    def train_on(self, batch, effort):
        """As the loop does: hooks, the minibatch, and on to the next position."""
        if self.position.minibatch == 0:
            self.method.begin_epoch(self.learner, self.position)
        self.method.before_batch(self.learner, batch, self.position)
        self.shown.clear()
        self.learner.begin_batch(batch.labels, lambda update: self.rate)
        self.method.train_batch(self.learner, batch, effort)
        done = self.position.epoch * MINIBATCHES + self.position.minibatch + 1
        self.position = Position(done // MINIBATCHES, EPOCHS, done % MINIBATCHES, MINIBATCHES)

    def assert_passes_counted(self):
        """What the learner counted is what the observer saw, and something was."""
        spent, counts = self.learner.spent, self.counts
        assert spent.updates == self.updates > 0
        assert spent.forwards == counts["forwards"] > 0
        assert spent.backwards == counts["backwards"] > 0


def minibatches_of(session):
    return [(images, labels, session.rule.effort_for(0)) for images, labels in random_minibatches()]
