"""What a method may change, and how: the network by the optimizer or the learner's `move`, its own state in place."""

import pytest
import torch
from session import BATCH, Session, every_method, minibatches_of, random_minibatches

from methods import Method


class CollapseDetector:
    """Raises when the network or its momentum changes while neither the optimizer nor a batch norm is at work.

    Nor the learner moves weights because it is told to; an update that it tries must leave all as it was.
    """

    def __init__(self, session: Session):
        self._network, self._optimizer = session.network, session.learner.optimizer
        session.learner.move = self._moving(session.learner.move)
        session.learner.try_update = self._trying(session.learner.try_update)
        self._optimizer.register_step_pre_hook(lambda *_: self.look())
        self._optimizer.register_step_post_hook(lambda *_: self._note())
        for layer in self._network.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.register_forward_pre_hook(lambda *_: self.look())
                layer.register_forward_hook(lambda *_: self._note())
        self._note()

    def look(self):
        for name, value in self._values():
            assert torch.equal(value, self._seen.get(name, value)), (
                f"train_batch changes {name} outside the optimizer; let learner.descend or learner.update change the "
                "network, which count it"
            )

    def _moving(self, move):
        def moving(direction, shares):
            self.look()
            move(direction, shares)
            self._note()

        return moving

    def _trying(self, try_update):
        def trying(loss, delta):
            before = self._seen
            tried = try_update(loss, delta)
            self._seen = before
            self.look()
            return tried

        return trying

    def _note(self):
        self._seen = {name: value.clone() for name, value in self._values()}

    def _values(self):
        yield from self._network.state_dict().items()
        for name, weight in self._network.named_parameters():
            for key, value in self._optimizer.state.get(weight, {}).items():
                yield f"{key} of {name}", value


def assert_the_optimizer_alone_changes_the_network(session):
    watch = CollapseDetector(session)
    for minibatch in minibatches_of(session):
        session.train(*minibatch)
        watch.look()


def assert_its_state_is_made_at_first_and_changed_in_place(session):
    """Also by a minibatch that is shorter, as the last of an epoch may be, and by the full one after it."""
    full, effort = list(random_minibatches()), session.rule.effort_for(0)
    (short,) = list(random_minibatches(batch=BATCH - 1))[:1]
    session.train(*full[0], effort)
    made, tensors = session.method.state, dict(session.method.state)
    storages = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    for images, labels in (full[1], short, full[0]):
        session.train(images, labels, effort)
        state = session.method.state
        assert state is made, (
            "train_batch puts another dict in place of self.state; keep the dict, and change the tensors in it in place"
        )
        late = state.keys() - tensors.keys()
        assert not late, f"state {', '.join(late)} is made after the first minibatch; make all of it in the first"
        for name, tensor in tensors.items():
            same = state.get(name) is tensor and tensor.data_ptr() == storages[name]
            assert same, (
                f"train_batch puts another tensor in place of state {name}; change it in place, as in "
                f"self.state[{name!r}].copy_(...), or recordings and checkpoints keep the old one"
            )


@every_method
def test_the_optimizer_alone_changes_the_network(method):
    assert_the_optimizer_alone_changes_the_network(Session(method))


@every_method
def test_its_state_is_made_at_first_and_changed_in_place(method):
    assert_its_state_is_made_at_first_and_changed_in_place(Session(method))


# -- that a method which does otherwise would be noticed ---------------------------------------------------------------


def weights_multiplied(learner, method):
    with torch.no_grad():
        for weight in learner.network.parameters():
            weight.mul_(0.99)


def data_replaced(learner, method):
    weight = learner.network.classifier.weight
    weight.data = weight.data * 0.99


def statistics_reset(learner, method):
    for layer in learner.network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()


def momentum_dropped(learner, method):
    for state in learner.optimizer.state.values():
        state["momentum_buffer"].zero_()


def dict_replaced(learner, method):
    method.state = {name: tensor.clone() for name, tensor in method.state.items()}


def tensor_replaced(learner, method):
    method.state["delta"] = method.state["delta"] * 0.5


def storage_replaced(learner, method):
    method.state["delta"].data = method.state["delta"] * 0.5


def tensor_made_late(learner, method):
    method.state[f"delta{len(method.state)}"] = torch.zeros(1)


def session_with(breach, *, first: bool):
    """Of Free, which has state, with a breach before or after what it does in each minibatch."""
    session = Session("free")
    train_batch = session.method.train_batch

    def broken(learner, batch, effort):
        if first and session.updates:
            breach(learner, session.method)
        train_batch(learner, batch, effort)
        if not first:
            breach(learner, session.method)

    session.method.train_batch = broken
    return session


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("breach", [weights_multiplied, data_replaced, statistics_reset, momentum_dropped])
def test_a_network_that_is_changed_outside_the_optimizer_would_be_noticed(breach, first):
    with pytest.raises(AssertionError, match="outside the optimizer; let learner.descend or learner.update change"):
        assert_the_optimizer_alone_changes_the_network(session_with(breach, first=first))


def test_weights_that_the_learner_moves_or_an_update_that_it_tries_pass():
    def allowed(learner, method):
        images, labels = next(random_minibatches())
        delta = torch.zeros_like(images).requires_grad_()
        _, changes = learner.try_update(torch.nn.functional.cross_entropy(learner(images + delta), labels), delta)
        learner.move(changes, [0.1] * len(changes))

    assert_the_optimizer_alone_changes_the_network(session_with(allowed, first=True))


def test_an_update_that_is_tried_and_not_taken_back_would_be_noticed():
    def untaken(learner, method):
        images, labels = next(random_minibatches())
        learner.try_update(images, labels)

    session = session_with(untaken, first=True)
    session.learner.try_update = lambda *_: weights_multiplied(session.learner, None)
    with pytest.raises(AssertionError, match="outside the optimizer"):
        assert_the_optimizer_alone_changes_the_network(session)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("breach", "told"),
    [
        (dict_replaced, "keep the dict, and change the tensors in it in place"),
        (tensor_replaced, "another tensor in place of state delta; change it in place"),
        (storage_replaced, "another tensor in place of state delta; change it in place"),
        (tensor_made_late, "made after the first minibatch; make all of it in the first"),
    ],
)
def test_state_that_is_replaced_would_be_noticed(breach, told, first):
    with pytest.raises(AssertionError, match=told):
        assert_its_state_is_made_at_first_and_changed_in_place(session_with(breach, first=first))


def test_a_method_without_state_or_with_state_changed_in_place_passes():
    class Counting(Method):
        def train_batch(self, learner, batch, effort):
            images, labels = batch.images, batch.labels
            self.state.setdefault("count", torch.zeros(())).add_(1)
            logits = learner(images)
            learner.descend(torch.nn.functional.cross_entropy(logits, labels), logits)

    for method in (Counting, type(Session("pgd").method)):
        session = Session("pgd")
        session.method = method(session.threat)
        assert_its_state_is_made_at_first_and_changed_in_place(session)
        assert_the_optimizer_alone_changes_the_network(session)
