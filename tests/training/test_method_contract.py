"""What the loop offers methods beside passes and updates: stores, schedules, hooks, modules, moved weights."""

from dataclasses import replace

import pytest
import test_cuda_graphs as recording
import tiny
import torch
import torch.nn.functional as F
from rehearsal import Recorder
from session import Session, random_minibatches
from torch import nn

from benchmarks.usual import batch_of
from experiment import method_facts
from experiment.errors import UserError
from experiment.suite import Suite
from methods import Batch, Method, stores
from training import checkpoint, trainer
from training.batches import PADDING, Batches

SHAPE = (3, 6, 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


class Everything(Method):
    """Uses all of it at once: a store, a schedule, both hooks, and a module that is trained in each."""

    def modules(self, network):
        torch.manual_seed(3)
        scale = nn.Linear(1, 1)
        return {"scale": (scale, torch.optim.SGD(scale.parameters(), lr=0.01, momentum=0.9))}

    def begin(self, split):
        self.state["kept"] = torch.zeros(split.images, *split.shape, device=split.where)
        self.state["visits"] = torch.zeros(split.images, device=split.where)
        self.state["hooks"] = torch.zeros(2, device=split.where)

    def schedule(self, position):
        return {"ramp": position.epoch / position.epochs, "odd": float(position.minibatch % 2)}

    def begin_epoch(self, learner, position):
        self.state["hooks"][0] += 1
        scale, optimizer = self.extra["scale"]
        optimizer.zero_grad()
        scale(torch.ones(1, 1)).sum().backward()
        optimizer.step()

    def before_batch(self, learner, batch, position):
        self.state["hooks"][1] += len(batch)

    def train_batch(self, learner, batch, effort):
        start = stores.read(self.state["kept"], batch)
        delta = self.threat.project(start * (1 - batch.scalars["odd"]) + self.threat.noise(batch.images).detach() / 2)
        loss = F.cross_entropy(learner.craft(batch.images + delta), batch.labels)
        gradient = learner.input_gradient(loss, delta)
        delta = self.threat.ascend(batch.images, delta, gradient, effort.step_size)
        stores.write(self.state["kept"], batch, delta)
        stores.write(self.state["visits"], batch, stores.read(self.state["visits"], batch) + 1)
        logits = learner(batch.images + delta)
        scale, _ = self.extra["scale"]
        weight = 1 + batch.scalars["ramp"] * scale(torch.ones(1, 1)).detach().squeeze()
        learner.descend(weight * F.cross_entropy(logits, batch.labels), logits)


@pytest.fixture
def everything(monkeypatch):
    monkeypatch.setattr(trainer, "load", lambda name: Everything)


def test_it_is_recorded_with_the_bits_of_step_by_step(data, tmp_path, everything):
    eager, _ = recording.finished(data, tmp_path / "eager", recording.step_by_step)
    recorded, log = recording.finished(data, tmp_path / "recorded", Recorder)
    assert recording.left(recorded) == recording.left(eager)
    assert len(recording.recorder_of(recorded).replays) == 9
    assert not [line for line in log if "step by step" in line]


def test_a_killed_run_ends_with_the_same_bits(data, tmp_path, monkeypatch, everything):
    expected, _ = recording.finished(data, tmp_path / "whole", Recorder)
    resumed = recording.killed(data, tmp_path / "killed", monkeypatch)
    assert recording.left(resumed) == recording.left(expected)


def test_every_image_is_visited_once_an_epoch_and_hooks_run_once(data, tmp_path, everything):
    run, log = recording.finished(data, tmp_path, recording.step_by_step)
    assert run.method.state["visits"].tolist() == [3.0] * 40
    assert run.method.state["hooks"].tolist() == [3.0, 3 * 40]
    assert "the method keeps 0 MiB for the training images, in memory and in checkpoints" in log


def test_what_a_hook_executes_is_counted_and_leaves_no_trace_of_being_counted(data, tmp_path, monkeypatch):
    class Looking(Everything):
        def before_batch(self, learner, batch, position):
            super().before_batch(learner, batch, position)
            with torch.no_grad():
                learner.look(batch.images)

    monkeypatch.setattr(trainer, "load", lambda name: Everything)
    without, _ = recording.finished(data, tmp_path / "without", recording.step_by_step)
    monkeypatch.setattr(trainer, "load", lambda name: Looking)
    looking, _ = recording.finished(data, tmp_path / "looking", recording.step_by_step)
    assert looking.spent["forwards"] == without.spent["forwards"] + 3  # one more of each image in each epoch
    assert looking.spent["compute"] > without.spent["compute"] + 0.9  # three forwards, a third of an epoch each
    for name, weight in looking.learner.network.state_dict().items():
        assert torch.equal(weight, without.learner.network.state_dict()[name])


# -- stores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop_flip"])
def test_a_padded_store_follows_every_pixel_through_crops_and_flips(augmentation):
    """Against a dictionary of what was last written for each image and each of its padded pixels."""
    images = torch.randint(0, 256, (7, *SHAPE), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    batches = Batches(images, torch.arange(7), 3, 0, augmentation)
    store, written = torch.zeros(stores.padded_shape(7, SHAPE)), {}
    for epoch in range(3):
        for batch in batches.epoch(epoch):
            found, value = stores.read_padded(store, batch), torch.rand(len(batch), *SHAPE)
            for position, row in enumerate(batch.index.tolist()):
                top, left = batch.shifts[:, position].tolist()
                for h in range(SHAPE[1]):
                    for w in range(SHAPE[2]):
                        column = left + (SHAPE[2] - 1 - w if batch.flips[position] else w)
                        place = (row, top + h, column)
                        assert found[position, :, h, w].tolist() == written.get(place, [0.0] * 3)
                        written[place] = value[position, :, h, w].tolist()
            stores.write_padded(store, batch, value)
    assert store.count_nonzero() == 3 * len(written)  # the rest is untouched


def test_a_store_of_half_precision_gives_what_it_holds_in_the_images_precision():
    store = torch.zeros(7, *SHAPE, dtype=torch.float16)
    batch = batch_of(torch.rand(4, *SHAPE), torch.arange(4))
    value = torch.rand(4, *SHAPE)
    stores.write(store, batch, value)
    assert stores.read(store, batch).dtype == torch.float32
    assert torch.equal(stores.read(store, batch), value.half().float())


def test_an_image_that_is_not_augmented_lies_in_the_middle_of_its_padding():
    batch = next(Batches(torch.zeros(4, *SHAPE, dtype=torch.uint8), torch.arange(4), 4, 0, "none").epoch(0))
    store = torch.zeros(stores.padded_shape(4, SHAPE))
    stores.write_padded(store, batch, torch.ones(4, *SHAPE))
    assert store[:, :, PADDING:-PADDING, PADDING:-PADDING].eq(1).all()
    assert store.sum() == 4 * 3 * 6 * 5


# -- passes and weights ------------------------------------------------------------------------------------------------


@pytest.fixture
def session():
    return Session("pgd")


@pytest.fixture
def batch(session):
    images, labels = next(random_minibatches())
    session.learner.begin_batch(labels, lambda done: 0.1)
    return batch_of(images, labels)


def test_a_look_leaves_batch_norm_s_statistics_and_mode(session, batch):
    before = {name: tensor.clone() for name, tensor in session.network.state_dict().items()}
    logits = session.learner.look(batch.images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in session.network.state_dict().items())
    assert all(module.training for module in session.network.modules())
    session.network.eval()
    assert torch.equal(logits, session.network(batch.images))


def test_features_are_what_the_last_layer_makes_logits_of(session, batch):
    logits, features = session.learner.with_features(batch.images)
    assert torch.equal(logits, session.network.classifier(features))
    assert features.dim() == 2


def test_a_differentiable_input_gradient_is_pytorch_s_own(session, batch):
    """GradAlign's kind of term: the gradient's square, differentiated for the weights, in float64 by hand."""
    delta = torch.zeros_like(batch.images).requires_grad_()
    loss = F.cross_entropy(session.learner(batch.images + delta), batch.labels)
    gradient = session.learner.input_gradient(loss, delta, create_graph=True)
    found = session.learner.weight_gradients(loss + (gradient**2).sum())
    network = session.network.double()
    delta = torch.zeros_like(batch.images).double().requires_grad_()
    loss = F.cross_entropy(network(batch.images.double() + delta), batch.labels)
    (gradient,) = torch.autograd.grad(loss, delta, create_graph=True)
    expected = torch.autograd.grad(loss + (gradient**2).sum(), list(network.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.double(), other, rtol=1e-3, atol=1e-6)


def test_a_kept_graph_is_gone_back_through_twice(session, batch):
    delta = torch.zeros_like(batch.images).requires_grad_()
    loss = F.cross_entropy(session.learner(batch.images + delta), batch.labels)
    session.learner.input_gradient(loss, delta, keep=True)
    session.learner.weight_gradients(loss)
    assert session.learner.spent.backwards == 2 * len(batch)


def test_moved_weights_come_back_to_the_bit_also_after_an_error(session, batch):
    before = [weight.detach().clone() for weight in session.network.parameters()]
    direction = [torch.rand_like(weight) for weight in before]

    def moved_and_failing():
        with session.learner.moved(direction, 0.3):
            for weight, kept, step in zip(session.network.parameters(), before, direction, strict=True):
                assert torch.allclose(weight, kept + 0.3 * step)
            raise KeyError

    with pytest.raises(KeyError):
        moved_and_failing()
    assert all(map(torch.equal, session.network.parameters(), before))


# -- what is refused, and how often a checkpoint is written ------------------------------------------------------------


def test_a_method_whose_update_goes_back_through_the_crafting_pass_needs_batch_norm_to_train(data, monkeypatch):
    content = tiny.content(data, training={"crafting_batch_norm": "eval"})
    Suite.from_mapping(content)
    facts = replace(method_facts.of("pgd"), reuses_crafting_graph=True)
    monkeypatch.setattr(method_facts, "of", lambda method: facts)
    with pytest.raises(UserError, match="variant it: pgd uses its crafting pass .* crafting_batch_norm must be train"):
        Suite.from_mapping(content)


@pytest.mark.parametrize(("asked", "writing", "seconds"), [(60, 0.2, 60), (60, 2, 60), (60, 9, 180), (1e-9, 0.1, 1e-9)])
def test_checkpoints_that_are_long_to_write_are_written_less_often(asked, writing, seconds):
    assert checkpoint.interval(asked, writing) == pytest.approx(seconds)


def test_a_minibatch_has_the_fields_that_methods_are_promised():
    assert list(Batch.__dataclass_fields__) == ["images", "labels", "index", "shifts", "flips", "scalars"]
