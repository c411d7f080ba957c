"""What every folder in methods/ must do, under every steps rule and with every network; its author writes none of it.

Perturbations: every image that the network is shown lies within eps of the minibatch's image, and inside [0, 1].
A method that declares that its authors' design leaves either must be seen to leave it, once it makes a step.
"""

import ast
import contextlib
import copy
import os
import random
import re
import warnings
from functools import cache

import numpy as np
import pytest
import torch
import yaml
from session import (
    BATCH,
    EPOCHS,
    MINIBATCHES,
    Session,
    build_network,
    each_rule_of_every_method,
    every_method,
    minibatches_of,
    random_minibatches,
    resolved,
    variants_of,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import methods
import steps
from experiment import method_facts, models, plugins
from experiment.effort import Effort
from experiment.errors import UserError
from experiment.suite import ROOT, Suite
from experiment.threats.threat import TOLERANCE


def global_state():
    """What any code of the process may change for all other code of it, in a form that compares."""
    yield from (torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
    yield from (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), torch.get_num_threads())
    yield from (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision())
    yield from (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32)
    yield from (torch.is_autocast_enabled("cpu"), dict(os.environ), os.getcwd(), list(warnings.filters))


@pytest.mark.fault("input")
@every_method
def test_every_number_among_its_options_has_a_range_and_every_word_its_choices(method):
    cls, options = methods.load(method), method_facts.of(method).options
    assert set(cls.ranges) == {key for key, value in options.items() if type(value) in (int, float)}
    assert set(cls.choices) == {key for key, value in options.items() if isinstance(value, str)}
    for key, (least, most) in cls.ranges.items():
        assert least <= options[key] <= most
        for beyond in (least - 1, most + 1):
            with pytest.raises(UserError, match=f"options.{key} is {beyond}.*between {least} and {most}"):
                with_option(method, key, beyond)
        for bound in (least, most):
            with_option(method, key, bound)


def with_option(method, key, value):
    """A suite with the method and this option."""
    return Suite.from_mapping(
        yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text())
        | {"variants": variants_of({"label": "it", "method": method, "options": {key: value}})}
    )


@every_method
def test_it_is_one_class_of_at_most_80_lines(method):
    """As docs/design.md has it; what is longer lies in files beside method.py, or in what a family shares."""
    source = (ROOT / "methods" / method / "method.py").read_text()
    assert sum(isinstance(node, ast.ClassDef) for node in ast.parse(source).body) == 1
    assert len(source.splitlines()) <= 80


@every_method
def test_it_leaves_global_state_alone(method):
    """The first test: what a method has already set to what it sets it to would not be seen to change."""
    session = Session(method)
    seed = random.SystemRandom().getrandbits(32)  # none that a method would choose
    torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)  # noqa: NPY002
    before = list(global_state())
    for images, labels in random_minibatches():
        session.train(images, labels, session.rule.effort_for(0))
    assert list(global_state()) == before


@each_rule_of_every_method
def test_it_trains_under_every_steps_rule(method, rule):
    session = Session(method, rule)
    before = [parameter.detach().clone() for parameter in session.network.parameters()]
    left_ball = left_box = stepped = False
    for epoch in range(EPOCHS):
        effort, sums = session.rule.effort_for(epoch), torch.zeros(3)
        stepped |= effort.steps > 0
        for images, labels in random_minibatches(seed=epoch):
            made = session.updates
            session.train(images, labels, effort)
            assert session.updates - made == session.method.updates(effort) > 0
            for shown in session.shown:
                differences = (shown.reshape(-1, *images.shape) - images).abs()
                left_ball |= (differences.amax() > session.threat.eps + TOLERANCE).item()
                left_box |= not ((shown >= 0) & (shown <= 1)).all().item()
            sums += session.learner.batch_statistics()
        assert sums.isfinite().all()
        assert 0 <= sums[1] <= MINIBATCHES * BATCH
        session.rule.end_epoch(epoch, steps.Statistics(sums[2].item(), sums[1].item() / (MINIBATCHES * BATCH)))
    for left, stays in ((left_ball, session.method.stays_in_ball), (left_box, session.method.stays_in_box)):
        assert not (left and stays)
        assert left or stays or not stepped
    for old, new in zip(before, session.network.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)
    session.assert_passes_counted()


@every_method
@pytest.mark.parametrize("norm", [norm for norm in plugins.names("threat") if norm != "linf"])
def test_it_trains_for_a_norm_or_refuses_it_in_a_sentence(norm, method):
    if norm not in methods.load(method).norms:
        with pytest.raises(UserError, match=f"variant it: {method} cannot train for the norm {norm}, only for linf"):
            resolved(method, norm=norm)
        return
    session = Session(method, norm=norm)
    reached = torch.zeros(())
    for images, labels in random_minibatches():
        session.train(images, labels, session.rule.effort_for(0))
        for shown in session.shown:
            differences = (shown.reshape(-1, *images.shape) - images).flatten(0, 1)
            reached = torch.maximum(reached, session.threat.distance(differences).max())
    assert reached > 0.5 * session.threat.eps
    assert (reached > session.threat.eps + TOLERANCE).item() == (not session.method.stays_in_ball)
    assert session.learner.batch_statistics().isfinite().all()


@cache
def smallest(network):
    """The network on the smallest images, of 4, 8, 16 or 32 pixels a side, that it takes."""
    for side in (4, 8, 16, 32):
        with contextlib.suppress(UserError):
            return build_network(network, (3, side, side)), (3, side, side)
    raise AssertionError(f"{network} takes no images of 32x32 pixels or fewer")


@pytest.mark.slow
@every_method
@pytest.mark.parametrize("name", models.names())
def test_it_trains_every_network(name, method):
    network, shape = smallest(name)
    session = Session(method, network=copy.deepcopy(network), shape=shape)
    session.rate = 1e-3  # of 2 images the deepest networks make gradients that explode at more
    effort = Effort(max(1, session.method.least_steps), session.rule.effort_for(0).step_size)
    for images, labels in random_minibatches(shape):  # of two, batch norm on 1x1 maps has no bounded second derivative
        session.train(images, labels, effort)
    session.assert_passes_counted()
    trained = session.network.state_dict()
    unchanged = [key for key, value in network.state_dict().items() if torch.equal(value, trained[key])]
    assert unchanged == ["first_layer.0.mean", "first_layer.0.std"]
    assert all(value.isfinite().all() for value in trained.values())


@every_method
def test_its_state_is_checkpointed_and_taken_up_again(method, tmp_path):
    whole, first = Session(method), Session(method)
    (one, two), file = minibatches_of(whole), tmp_path / "state.pt"
    whole.train(*one)
    whole.train(*two)
    first.train(*one)
    extra = [[part.state_dict() for part in pair if part] for pair in first.method.extra.values()]
    torch.save([first.method.state, first.threat.generator.get_state(), extra], file)
    second = Session(method, network=first.network)
    second.learner.optimizer.load_state_dict(first.learner.optimizer.state_dict())
    second.method.state, noise, extra = torch.load(file, weights_only=True)
    second.threat.generator.set_state(noise)
    second.position = first.position
    if second.method.needs_teacher:
        whole.method.teacher = first.method.teacher  # of equal weights
        second.method.teacher = first.method.teacher
    for pair, states in zip(second.method.extra.values(), extra, strict=True):
        for part, state in zip(filter(None, pair), states, strict=True):
            part.load_state_dict(state)
    second.train(*two)
    for expected, value in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(expected, value)


@every_method
def test_it_leaves_the_minibatch_and_the_network_s_mode_as_they_were(method):
    session = Session(method)
    minibatches = minibatches_of(session)
    given = copy.deepcopy(minibatches)
    for minibatch in minibatches:
        session.train(*minibatch)
    for (images, labels, _), (images_before, labels_before, _) in zip(minibatches, given, strict=True):
        assert torch.equal(images, images_before)
        assert not images.requires_grad
        assert torch.equal(labels, labels_before)
    assert all(module.training for module in session.network.modules())
    assert all(parameter.requires_grad for parameter in session.network.parameters())
    assert all(parameter.grad is None for parameter in session.network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in methods.names() if methods.load(name).capturable])
def test_it_keeps_to_the_device_of_its_images(method):
    """Tensors of the meta device mix with those of no other and cannot be moved to one; they have no values either."""
    session = Session(method, device="meta")
    for images, labels, effort in minibatches_of(session):
        session.train(images.to("meta"), labels.to("meta"), effort)
    assert session.updates > 0
    assert all(value.is_meta for value in session.method.state.values())


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


class RefuseToCopy(TorchFunctionMode):
    """Raises when a tensor is made of Python's numbers: they would be copied to a GPU, which cannot be recorded."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in ("tensor", "new_tensor", "as_tensor", "from_numpy"):
            raise AssertionError(
                f"train_batch makes a tensor of numbers ({function.__name__}); torch.full, zeros and "
                "arange make theirs on the device"
            )
        return function(*args, **(kwargs or {}))


@every_method
def test_it_makes_its_tensors_on_the_device(method):
    session = Session(method)
    one, two = minibatches_of(session)
    session.train(*one)  # what is made in the first minibatch is not recorded
    session.learner.begin_batch(two[1], lambda update: 0.01)
    batch = session.batch(*two[:2])
    with RefuseToCopy() if session.method.capturable else contextlib.nullcontext():
        session.method.train_batch(session.learner, batch, two[2])


@pytest.mark.parametrize(
    "make", [lambda t: torch.tensor(1.0), lambda t: torch.as_tensor(1.0), lambda t: t.new_tensor([1.0])]
)
def test_a_copy_to_the_device_would_be_noticed(make):
    with RefuseToCopy(), pytest.raises(AssertionError, match="makes a tensor of numbers"):
        make(torch.ones(1))


@every_method
def test_it_asks_no_tensor_for_its_value_or_says_that_it_does(method):
    session = Session(method)
    one, two = minibatches_of(session)
    session.train(*one)
    session.learner.begin_batch(two[1], lambda update: 0.01)
    looks = pytest.raises(AssertionError, match="asks for a tensor's value")
    with contextlib.nullcontext() if session.method.capturable else looks, RefuseToLook():
        session.method.train_batch(session.learner, session.batch(*two[:2]), two[2])


@pytest.mark.parametrize("look", [torch.Tensor.item, bool, int, float, torch.nonzero, lambda t: t[t.reshape(1) > 0]])
def test_asking_a_tensor_for_its_value_would_be_noticed(look):
    with RefuseToLook(), pytest.raises(AssertionError, match="asks for a tensor's value"):
        look(torch.ones(1))


class RefuseClamp(TorchFunctionMode):
    """Raises when a gradient is to pass through an operation whose derivative depends on PyTorch's version."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if re.fullmatch("(clamp|clip)(_min|_max)?_?", function.__name__) and result.requires_grad:
            raise AssertionError(
                f"train_batch differentiates through {function.__name__}, whose derivative at its bounds is another "
                "from PyTorch 2.14 on; cut images to the box with self.threat.clip"
            )
        return result


@pytest.mark.fault("version")
@every_method
def test_its_gradients_mean_the_same_under_every_version_of_pytorch(method):
    session = Session(method)
    for minibatch in minibatches_of(session):
        with RefuseClamp():
            session.train(*minibatch)


@pytest.mark.parametrize("cut", [torch.Tensor.clamp, torch.clip, torch.Tensor.clip, torch.clamp, torch.clamp_max])
def test_a_gradient_through_the_box_that_depends_on_the_version_would_be_noticed(cut):
    with RefuseClamp():
        cut(torch.ones(1), max=1)
        with pytest.raises(AssertionError, match="cut images to the box with self.threat.clip"):
            cut(torch.ones(1, requires_grad=True), max=1)
