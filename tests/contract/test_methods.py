"""What every folder in methods/ must do, under every steps rule and with every network; its author writes none of it.

Perturbations: every image that the network is shown lies within eps of the minibatch's image, and inside [0, 1].
A method that leaves either by its authors' design is named below with the reason, and must then be seen to leave it.
"""

import contextlib
import copy
import random
import re

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import methods
from experiment import models
from experiment.effort import Effort
from experiment.errors import UserError
from experiment.suite import ROOT, Suite, method_defaults
from experiment.threat import THREATS
from training import steps
from training.batches import seeded
from training.learner import Learner

LEAVES_BALL: dict[str, str] = {}
LEAVES_BOX = {
    "yopo": "starts from uniform noise that the authors' code does not cut to the box before the first full pass"
}
EPOCHS, MINIBATCHES, BATCH = 4, 2, 4
SHAPE = (1, 8, 8)
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)

every_method = pytest.mark.parametrize("method", methods.names())
every_rule = pytest.mark.parametrize("rule", steps.RULES)


def resolved(method, rule="constant"):
    """The specification of a run of a suite that says no more than the method and the rule."""
    suite = Suite.from_mapping(
        {
            "suite": "contract",
            "datasets": ["digits"],
            "network": {"name": "small_cnn"},
            "threat": {"eps": 0.1},
            "training": {"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.01},
            "evaluation": {"attacks": ["clean"]},
            "seeds": [0],
            "variants": [{"label": "it", "method": method, "steps": {"rule": rule}}],
        }
    )
    methods.check(suite.resolved["variants"])
    return next(suite.runs()).spec


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

    def __init__(self, method, rule="constant", network=None):
        spec = resolved(method, rule)
        eps = spec["threat"]["eps"]
        self.rule = steps.build(spec["steps"], eps=eps, epochs=EPOCHS)
        self.threat = THREATS[spec["threat"]["norm"]](eps, seeded("cpu", 0, 1))
        self.method = methods.load(method)(self.threat, **spec["options"])
        self.network = (network or build_network()).train()
        optimizer = torch.optim.SGD(self.network.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
        self.learner = Learner(self.network, optimizer, magnitude=self.rule.magnitude_of)
        self.updates = 0
        self.counts = dict.fromkeys(["first_forwards", "forwards", "first_backwards", "backwards"], 0)
        self.shown = []  # to the network, since the minibatch began
        optimizer.register_step_post_hook(lambda *_: self._count_update())
        self.network.first_layer.register_forward_pre_hook(lambda _, inputs: self.shown.append(inputs[0].detach()))
        self._count(self.network.first_layer, "first_forwards", "first_backwards")
        self._count(self.network.classifier, "forwards", "backwards")

    def _count_update(self):
        self.updates += 1

    def _count(self, module, forwards, backwards):
        def arrived(gradient):
            self.counts[backwards] += 1

        def left(module, inputs, output):
            self.counts[forwards] += 1
            if output.requires_grad:
                output.register_hook(arrived)

        module.register_forward_hook(left)

    def train(self, images, labels, effort):
        self.shown.clear()
        self.learner.begin_batch(labels, lambda update: 0.01)
        self.method.train_batch(self.learner, images, labels, effort)


@every_rule
@every_method
def test_it_trains_under_every_steps_rule(method, rule):
    session = Session(method, rule)
    before = [parameter.detach().clone() for parameter in session.network.parameters()]
    left_box = False
    for epoch in range(EPOCHS):
        effort, sums = session.rule.effort_for(epoch), torch.zeros(3)
        for images, labels in random_minibatches(seed=epoch):
            made = session.updates
            session.train(images, labels, effort)
            assert session.updates - made == session.method.updates(effort) > 0
            for shown in session.shown:
                differences = (shown.reshape(-1, *images.shape) - images).abs()
                inside = ((shown >= 0) & (shown <= 1)).all().item()
                left_box |= not inside
                assert inside or method in LEAVES_BOX
                assert differences.amax() <= session.threat.eps + 1e-6 or method in LEAVES_BALL
            sums += session.learner.batch_statistics()
        assert sums.isfinite().all()
        assert 0 <= sums[1] <= MINIBATCHES * BATCH
        session.rule.end_epoch(epoch, steps.Statistics(sums[2].item(), sums[1].item() / (MINIBATCHES * BATCH)))
    assert left_box == (method in LEAVES_BOX)
    for old, new in zip(before, session.network.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)
    passes, counts = session.learner.passes, session.counts
    assert passes.updates == session.updates
    assert passes.forwards == counts["forwards"]
    assert passes.backwards == counts["backwards"]
    assert passes.partial_forwards == counts["first_forwards"] - counts["forwards"]
    assert passes.partial_backwards == counts["first_backwards"] - counts["backwards"]


def smallest(network):
    """The network on the smallest images, of 4, 8, 16 or 32 pixels a side, that it takes."""
    for side in (4, 8, 16, 32):
        with contextlib.suppress(UserError):
            return build_network(network, (3, side, side)), (3, side, side)
    raise AssertionError(f"{network} takes no images of 32x32 pixels or fewer")


@pytest.mark.parametrize("name", models.names())
def test_every_method_trains_every_network(name):
    network, shape = smallest(name)
    for method in methods.names():
        session = Session(method, network=copy.deepcopy(network))
        effort = Effort(max(1, session.method.least_steps), session.rule.effort_for(0).step_size)
        for images, labels in random_minibatches(shape, batch=2):
            session.train(images, labels, effort)
        trained = session.network.state_dict()
        unchanged = [key for key, value in network.state_dict().items() if torch.equal(value, trained[key])]
        assert unchanged == ["first_layer.0.mean", "first_layer.0.std"], method
        assert all(value.isfinite().all() for value in trained.values()), method


def minibatches_of(session):
    return [(images, labels, session.rule.effort_for(0)) for images, labels in random_minibatches()]


@every_method
def test_its_state_is_checkpointed_and_taken_up_again(method, tmp_path):
    whole, first = Session(method), Session(method)
    (one, two), file = minibatches_of(whole), tmp_path / "state.pt"
    whole.train(*one)
    whole.train(*two)
    first.train(*one)
    torch.save([first.method.state, first.threat.generator.get_state()], file)
    second = Session(method, network=first.network)
    second.learner.optimizer.load_state_dict(first.learner.optimizer.state_dict())
    second.method.state, noise = torch.load(file, weights_only=True)
    second.threat.generator.set_state(noise)
    second.train(*two)
    for expected, value in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(expected, value)


@every_method
def test_it_leaves_global_random_numbers_alone(method):
    session = Session(method)
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    for minibatch in minibatches_of(session):
        session.train(*minibatch)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), repr(np.random.get_state())) == before[1:]  # noqa: NPY002


@every_method
def test_it_opens_no_file(method, monkeypatch, tmp_path):
    session = Session(method)
    one, two = minibatches_of(session)
    session.train(*one)  # what PyTorch imports on first use is not the method's doing

    def refuse(path, *_, **__):
        raise AssertionError(f"{method} opens {path}")

    with monkeypatch.context() as patched:
        patched.chdir(tmp_path)
        for name in ("builtins.open", "io.open", "os.open"):
            patched.setattr(name, refuse)
        session.train(*two)
    assert list(tmp_path.iterdir()) == []


@every_method
def test_it_keeps_nothing_outside_its_own_object(method):
    session = Session(method)
    module = vars(__import__(f"methods.{method}.method", fromlist=["method"]))

    def outside():
        for scope in (module, vars(type(session.method))):
            yield {key: (id(value), repr(value)) for key, value in scope.items() if not key.startswith("__")}

    before = list(outside())
    for minibatch in minibatches_of(session):
        session.train(*minibatch)
    assert list(outside()) == before


class RefuseToLook(TorchDispatchMode):
    """Raises when Python asks what is in a tensor, or how long a result is that depends on it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        looks = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(function.tags)
        if function.overloadpacket is torch.ops.aten.index:  # a gather by integers has a known shape, a mask has not
            looks = any(index is not None and index.dtype == torch.bool for index in args[1])
        if looks:
            raise AssertionError(f"train_batch asks for a tensor's value ({function})")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", [name for name in methods.names() if methods.load(name).capturable])
def test_it_asks_no_tensor_for_its_value(method):
    session = Session(method)
    one, two = minibatches_of(session)
    session.train(*one)
    session.learner.begin_batch(two[1], lambda update: 0.01)
    with RefuseToLook():
        session.method.train_batch(session.learner, *two)


@pytest.mark.parametrize("look", [torch.Tensor.item, bool, int, float, torch.nonzero, lambda t: t[t.reshape(1) > 0]])
def test_asking_a_tensor_for_its_value_would_be_noticed(look):
    with RefuseToLook(), pytest.raises(AssertionError, match="asks for a tensor's value"):
        look(torch.ones(1))


@every_rule
@every_method
def test_its_defaults_name_every_steps_rule(method, rule):
    parameters = method_defaults(method)["steps"][rule]
    assert set(resolved(method, rule)["steps"]) == {"rule", *parameters}


@every_method
def test_its_readme_names_its_source_and_explains_its_defaults(method):
    text = (ROOT / "methods" / method / "README.md").read_text()
    assert re.search(r"arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\d+", text)
    defaults = method_defaults(method)
    for name in [*defaults["steps"], *defaults["options"]]:
        assert re.search(rf"^[|-].*`{name}`", text, re.MULTILINE), f"no row of a table and no item of a list on {name}"


def test_the_exceptions_are_about_methods_that_exist():
    assert {*LEAVES_BALL, *LEAVES_BOX} <= set(methods.names())
