"""Recorded minibatches, rehearsed on a CPU (tests/training/rehearsal.py): the numbers are those of step by step."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
import tiny
import torch
from rehearsal import NoReading, NoWaiting, Recorder, Refusing

import methods
from experiment import plugins
from experiment.data import dataset
from experiment.datasets.dataset import train_validation_split
from experiment.method_facts import of
from methods import load
from training import trainer
from training.clock import Clock
from training.counts import FlopCounter
from training.optimizers.sgd import SGD
from training.trainer import Trainer

CPU = torch.device("cpu")
CYCLIC = {"lr": 0.1, "schedule": {"name": "cyclic", "peak": 0.4, "peak_momentum": 0.8, "unit": "update"}}
EXACT = {"lr": 0.125, "schedule": {"milestones": [0.5], "factor": 0.5, "unit": "update"}}  # in float32 as in float64
UNLIKE = ("seconds", "load", "warmup_seconds", "at_epoch_start", "started", "peak_memory", "parts")

every_method = pytest.mark.parametrize("method", methods.names())
every_method_and_kind_of_rule = pytest.mark.parametrize(
    ("method", "rule"),
    [(method, rule) for method in methods.names() for rule in ("constant", "mplus") if rule in of(method).rules],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


class Killed(BaseException):
    """Stands for SIGKILL where the process goes on."""


def step_by_step(device, generator):
    return None


def made(data, folder, recorder, method="pgd", rule="constant", options=None, checkpoint_seconds=1000, **changes):
    """A trainer of 3 epochs of 3 minibatches, the last one short, and the lines of its log."""
    suite, log = tiny.suite(data, method, rule, options, training={"epochs": 3} | EXACT | changes), []
    spec, training = next(suite.runs()).spec, suite.resolved["training"]
    split = train_validation_split(
        *suite.load_split("digits", "train"), training["validation_images"], training["max_train_images"]
    )
    folder.mkdir(exist_ok=True)
    arguments = (spec, dataset("digits"), split, CPU, folder / "resume", checkpoint_seconds)
    return Trainer(*arguments, log=log.append, teacher=tiny.teacher_of(spec), recorder=recorder), log


def finished(*arguments, **options):
    """The trainer at the end of its run, and the lines of its log."""
    trainer, log = made(*arguments, **options)
    trainer.train()
    return trainer, log


def left(trainer):
    """All that a run leaves but its times and memory."""
    state = {key: value for key, value in trainer._state().items() if key not in UNLIKE}
    state["rows"] = [{key: value for key, value in row.items() if "seconds" not in key} for row in state["rows"]]
    return tiny.plain(state)


def recorder_of(trainer):
    return trainer._minibatches._recorder


@pytest.mark.slow
@every_method_and_kind_of_rule
def test_recorded_minibatches_leave_the_bits_of_training_step_by_step(data, tmp_path, method, rule):
    """Weights, momentum, batch norm, random numbers, counts of passes, rates, magnitudes and accuracies."""
    options = {"divide_lr": False} if method == "yopo" else {}  # a fifth of a rate is not the same in float32
    recorded, log = finished(data, tmp_path / "recorded", Recorder, method, rule, options)
    eager, _ = finished(data, tmp_path / "eager", step_by_step, method, rule, options)
    assert len(recorder_of(recorded).replays) >= 7  # of 9: those that make a method's state are not
    assert left(recorded) == left(eager)
    assert not [line for line in log if "step by step" in line]


@pytest.mark.slow
@every_method
def test_what_cannot_be_recorded_is_trained_step_by_step_with_the_same_bits(data, tmp_path, method):
    recorded, _ = finished(data, tmp_path / "recorded", Recorder, method, tiny.growing(method), **CYCLIC)
    refused, log = finished(data, tmp_path / "refused", Refusing, method, tiny.growing(method), **CYCLIC)
    assert left(recorded) == left(refused)
    (told,) = [line for line in log if "step by step" in line]
    assert "not recorded, but trained step by step: nothing is recorded here" in told


def killed(data, folder, monkeypatch, *arguments, **options):
    """A recorded run that is killed in the middle of its third epoch, and then goes on to its end."""
    original, calls = Trainer._train_batch, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 8:
            raise Killed
        original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_batch", dying)
        with pytest.raises(Killed):
            finished(data, folder, Recorder, *arguments, checkpoint_seconds=1e-9, **options)
    resumed, log = finished(data, folder, Recorder, *arguments, **options)
    assert "resumed at epoch 2, minibatch 1" in log
    assert recorder_of(resumed).replays
    return resumed


@pytest.mark.slow
@every_method
def test_a_killed_run_records_anew_and_ends_with_the_same_bits(data, tmp_path, monkeypatch, method):
    expected, _ = finished(data, tmp_path / "whole", Recorder, method, tiny.growing(method), **CYCLIC)
    resumed = killed(data, tmp_path / "killed", monkeypatch, method, tiny.growing(method), **CYCLIC)
    assert left(resumed) == left(expected)


@pytest.mark.parametrize("optimizer", plugins.names("optimizer"))
def test_every_optimizer_recorded_and_killed_leaves_the_bits_of_step_by_step(data, tmp_path, monkeypatch, optimizer):
    expected, _ = finished(data, tmp_path / "eager", step_by_step, optimizer={"name": optimizer})
    resumed = killed(data, tmp_path / "killed", monkeypatch, optimizer={"name": optimizer})
    assert left(resumed) == left(expected)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_that_makes_its_state_in_its_first_step_is_right_too(
    data, tmp_path, monkeypatch, optimizer, fused
):
    """PyTorch's own: recorded from the second minibatch on where they can be, and else trained step by step."""
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    monkeypatch.setattr(SGD, "build", lambda self, weights, lr: optimizer(weights, lr=lr, fused=fused, **options))
    expected, _ = finished(data, tmp_path / "eager", step_by_step)
    recorded, log = finished(data, tmp_path / "recorded", Recorder)
    if fused:
        assert left(recorded) == left(expected)
    for one, other in zip(recorded.learner.network.parameters(), expected.learner.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)  # rates are float32 where recorded
    assert bool(recorder_of(recorded).replays) == fused
    assert len([line for line in log if "step by step" in line]) == (not fused)


@pytest.mark.parametrize("recorder", [Recorder, step_by_step])
def test_every_update_has_the_momentum_that_the_schedule_has_for_it(data, tmp_path, monkeypatch, recorder):
    multiplied, original = [], torch._foreach_mul_
    monkeypatch.setattr(torch, "_foreach_mul_", lambda ts, m: (multiplied.append(m), original(ts, m)))
    trainer, _ = made(data, tmp_path, recorder, "free", **CYCLIC)
    values, train = [], trainer._minibatches.train

    def noted(batch, effort, rates, momenta):
        train(batch, effort, rates, momenta)
        values.extend((slot.item(), momentum) for slot, momentum in zip(multiplied[-8:], momenta, strict=True))

    monkeypatch.setattr(trainer._minibatches, "train", noted)
    trainer.train()
    assert len(values) == 3 * 3 * 8
    for place, (read, given) in enumerate(values):
        share = place / (9 * 8)
        expected = 0.9 - 0.1 * (share / 0.4 if share <= 0.4 else (1 - share) / 0.6)
        assert given == pytest.approx(expected)
        assert read == pytest.approx(expected)


def test_one_recording_serves_all_minibatches_of_a_shape_under_an_effort(data, tmp_path):
    steady, _ = finished(data, tmp_path / "constant", Recorder)
    assert recorder_of(steady).replays == [0, 0, 1] * 3
    growing, _ = finished(data, tmp_path / "every", Recorder, rule="every")
    assert len({row["steps"] for row in growing.rows}) == 3
    assert recorder_of(growing).replays == [0, 0, 1, 2, 2, 3, 4, 4, 5]


def test_recordings_of_past_efforts_are_not_kept(data, tmp_path):
    growing, _ = finished(data, tmp_path, Recorder, rule="every")
    assert [tape() is not None for tape in recorder_of(growing).tapes] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("recorder", [Recorder, step_by_step])
@every_method
def test_preparing_changes_nothing_that_the_run_depends_on(data, tmp_path, method, recorder):
    trainer, _ = made(data, tmp_path, recorder, method)
    effort, minibatches = trainer.rule.effort_for(0), trainer._minibatches
    batch = replace(next(trainer.batches.epoch(0)), scalars=trainer._scalars())
    minibatches.prepare(batch, effort)
    minibatches.train(batch, effort, [0.1] * trainer.method.updates(effort))
    before = left(trainer)
    minibatches.prepare(batch, effort)
    assert recorder is step_by_step or len(recorder_of(trainer).tapes) == 1
    assert left(trainer) == before
    minibatches.train(batch, effort, [0.1] * trainer.method.updates(effort))
    assert left(trainer) != before


def test_a_recording_is_given_each_minibatch_s_images_labels_and_rates(data, tmp_path):
    """Not those that it was made with: they lie in buffers of its own, which hold what was given last."""
    trainer, _ = made(data, tmp_path, Recorder)
    effort, minibatches = trainer.rule.effort_for(0), trainer._minibatches
    first, second, _ = trainer.batches.epoch(0)
    minibatches.prepare(first, effort)
    minibatches.train(second, effort, [0.25])
    static = minibatches._inputs[second.images.shape]
    for read, given in zip(static.tensors, second.tensors, strict=True):
        assert torch.equal(read, given)
        assert read is not given
    assert trainer.learner.optimizer.param_groups[0]["lr"].item() == 1.0 * 0.25 == trainer.learner.last_rate


def test_random_numbers_of_a_replay_are_those_of_one_minibatch(data, tmp_path):
    trainer, _ = made(data, tmp_path, Recorder)
    other, _ = made(data, tmp_path, step_by_step)
    effort, states = trainer.rule.effort_for(0), []
    batch = next(trainer.batches.epoch(0))
    for one in (trainer, other):
        one._minibatches.prepare(batch, effort)
    for _ in range(3):
        trainer._minibatches.train(batch, effort, [0.1])
        other._minibatches.train(batch, effort, [0.1])
        states.append(trainer._noise.get_state().tolist())
        assert states[-1] == other._noise.get_state().tolist()
    assert states[0] != states[1] != states[2]


# -- methods that cannot be recorded -----------------------------------------------------------------------------------


def variant_of(method, **members):
    return lambda name: type("Variant", (load(method),), members)


def test_a_method_that_says_so_is_not_recorded(data, tmp_path, monkeypatch):
    expected, _ = finished(data, tmp_path / "eager", step_by_step, "free")
    monkeypatch.setattr(trainer, "load", variant_of("free", capturable=False))
    declared, log = finished(data, tmp_path / "declared", Recorder, "free")
    assert recorder_of(declared).tapes == []
    assert recorder_of(declared).warm_ups >= 2 * 2  # of either shape: kernels are chosen outside the clock all the same
    assert not [line for line in log if "step by step" in line]
    assert left(declared) == left(expected)


def test_a_method_that_waits_for_a_value_is_found_out_and_trained_step_by_step(data, tmp_path, monkeypatch):
    def waiting(self, learner, batch, effort):
        images = batch.images
        assert images.max().item() <= 1
        load("pgd").train_batch(self, learner, batch, effort)

    expected, _ = finished(data, tmp_path / "eager", step_by_step)
    monkeypatch.setattr(trainer, "load", variant_of("pgd", train_batch=waiting))
    found, log = finished(data, tmp_path / "found", Recorder)
    assert [line for line in log if "step by step: operation not permitted when stream is capturing" in line]
    assert left(found) == left(expected)


@pytest.mark.parametrize("recorder", [Recorder, step_by_step])
def test_of_a_method_that_works_by_what_it_finds_every_minibatch_is_counted(data, tmp_path, monkeypatch, recorder):
    """Here one forward of an image more for each odd label."""
    took = []

    def varying(self, learner, batch, effort):
        images, labels = batch.images, batch.labels
        took.append(int((labels % 2).sum()))
        if took[-1]:
            learner.network(images[: took[-1]])
        load("pgd").train_batch(self, learner, batch, effort)

    expected, _ = finished(data, tmp_path / "plain", step_by_step)
    monkeypatch.setattr(trainer, "load", variant_of("pgd", train_batch=varying, capturable=False))
    found, _ = finished(data, tmp_path / "varying", recorder)
    assert len(set(took)) > 2
    images = found.learner.spent.forwards - expected.learner.spent.forwards
    with FlopCounter() as counter:
        found.learner.network(found.batches.images[:1].float())
    assert images > 0
    assert found.learner.spent.flops - expected.learner.spent.flops == images * counter.flops


def test_a_method_that_puts_another_tensor_in_its_state_is_trained_step_by_step(data, tmp_path, monkeypatch):
    """A recording would write to the tensor that was there when it was made, and the checkpoint would hold another."""

    def rebinding(self, learner, batch, effort):
        images = batch.images
        load("pgd").train_batch(self, learner, batch, effort)
        self.state["mean"] = self.state.get("mean", 0) * 0.9 + images.mean() * 0.1

    monkeypatch.setattr(trainer, "load", variant_of("pgd", train_batch=rebinding))
    expected, _ = finished(data, tmp_path / "eager", step_by_step)
    found, log = finished(data, tmp_path / "found", Recorder)
    assert [line for line in log if "step by step: the method puts other tensors in place of state mean" in line]
    assert left(found) == left(expected)


def test_a_mistake_in_a_method_is_not_taken_for_one_that_cannot_be_recorded(data, tmp_path, monkeypatch):
    def wrong(self, learner, batch, effort):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(trainer, "load", variant_of("pgd", train_batch=wrong))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        finished(data, tmp_path, Recorder)


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_warming_up_and_recording_are_outside_the_clock_and_recorded(data, tmp_path, monkeypatch):
    now = [0.0]

    def taking(seconds, function):
        def timed(*arguments):
            now[0] += seconds
            return function(*arguments)

        return timed

    monkeypatch.setattr(trainer, "Clock", lambda device: Clock(device, now=lambda: now[0]))
    monkeypatch.setattr(Recorder, "warm_up", taking(10, Recorder.warm_up))
    monkeypatch.setattr(Recorder, "record", taking(100, Recorder.record))
    monkeypatch.setattr(Trainer, "_train_batch", taking(1, Trainer._train_batch))
    run, _ = finished(data, tmp_path, Recorder, rule="every", checkpoint_seconds=1e-9)
    assert run.clock.seconds == 3 * 3
    assert run.clock.warmup_seconds == 6 * (2 * 10 + 100)
    again, _ = made(data, tmp_path, Recorder, rule="every")  # a later part counts on
    assert again.clock.warmup_seconds == run.clock.warmup_seconds


@every_method
def test_nothing_waits_for_a_value_while_the_clock_runs(data, tmp_path, monkeypatch, method):
    class Watched(Clock):
        def start(self):
            super().start()
            self.guards = ExitStack()
            self.guards.enter_context(NoWaiting())
            self.guards.enter_context(NoReading())

        def stop(self):
            self.guards.close()
            super().stop()

    monkeypatch.setattr(trainer, "Clock", Watched)
    run, _ = finished(data, tmp_path, step_by_step, method, tiny.growing(method))
    assert len(run.rows) == 3


@pytest.mark.parametrize("wait", [torch.Tensor.item, bool, float, torch.Tensor.tolist, torch.Tensor.cpu])
def test_a_wait_would_be_seen(wait):
    with NoWaiting(), NoReading(), pytest.raises(RuntimeError, match="not permitted"):
        wait(torch.ones(()))
