"""What only a GPU can show of recordings; everything else about them is rehearsed on a CPU (test_capture.py)."""

import gc
from functools import cache

import pytest
import tiny
import torch

import methods
from experiment.data import dataset
from experiment.datasets.dataset import train_validation_split
from methods import load
from training import trainer
from training.cuda_graphs import CudaGraphs
from training.trainer import Trainer

pytestmark = pytest.mark.needs_gpu
GPU = torch.device("cuda")
UNLIKE = ("seconds", "load", "warmup_seconds", "at_epoch_start", "started", "peak_memory", "parts", "rows")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def deterministic(monkeypatch):
    """cuDNN sums some gradients in any order; here the bits are compared."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@cache
def stream():
    """One for all: libraries keep memory for each stream that they ever saw."""
    return torch.cuda.Stream(GPU)


def on_the_shared(recorder):
    return lambda device, generator: recorder(device, generator, stream())


class Refusing(CudaGraphs):
    """Can record nothing: minibatches are trained step by step, with all else as ever."""

    def record(self, function):
        raise RuntimeError("nothing is recorded here")


def trained(data, folder, method="pgd", rule=None, recorder=CudaGraphs, **changes):
    """The trainer of a finished run and the lines of its log."""
    suite, log = tiny.suite(data, method, rule or tiny.growing(method), training=changes), []
    training = suite.resolved["training"]
    split = train_validation_split(
        *suite.load_split("digits", "train"), training["validation_images"], training["max_train_images"]
    )
    folder.mkdir(exist_ok=True)
    spec = next(suite.runs()).spec
    arguments = (spec, dataset("digits"), split, GPU, folder / "resume", 1000)
    run = Trainer(*arguments, log=log.append, teacher=tiny.teacher_of(spec, GPU), recorder=on_the_shared(recorder))
    run.train()
    return run, log


def left(run):
    return tiny.plain({key: value for key, value in run._state().items() if key not in UNLIKE})


def recordings(run):
    return [one for one in run._minibatches._recordings.values() if one is not None]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", methods.names())
def test_graphs_leave_the_bits_of_training_step_by_step(data, tmp_path, method, precision):
    recorded, log = trained(data, tmp_path / "recorded", method, precision=precision)
    eager, _ = trained(data, tmp_path / "eager", method, recorder=Refusing, precision=precision)
    assert not [line for line in log if "step by step" in line]
    assert recordings(recorded)
    assert left(recorded) == left(eager)


@pytest.mark.parametrize("method", methods.names())
def test_graphs_read_the_momentum_of_each_update(data, tmp_path, method):
    cyclic = {"schedule": {"name": "cyclic", "peak_momentum": 0.5, "unit": "update"}}
    recorded, _ = trained(data, tmp_path / "recorded", method, **cyclic)
    assert recordings(recorded)
    assert left(recorded) == left(trained(data, tmp_path / "eager", method, recorder=Refusing, **cyclic)[0])


def test_memory_does_not_grow_with_the_number_of_efforts(data, tmp_path):
    """Reserved, not allocated: what lies in the graphs' pool is allocated to nobody between replays."""
    reserved = {}
    for epochs in (3, 12):
        gc.collect()
        torch.cuda.empty_cache()
        run, _ = trained(data, tmp_path / str(epochs), rule="every", epochs=epochs)
        assert len(recordings(run)) == 2
        assert len({row["steps"] for row in run.rows}) == min(epochs, 8)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        reserved[epochs] = torch.cuda.memory_reserved()
        del run
    assert reserved[12] <= reserved[3] + 16 * 2**20


def test_a_method_that_waits_for_a_value_is_trained_step_by_step(data, tmp_path, monkeypatch):
    def waiting(self, learner, batch, effort):
        images = batch.images
        assert images.max().item() <= 1
        load("pgd").train_batch(self, learner, batch, effort)

    expected, _ = trained(data, tmp_path / "eager", recorder=Refusing)
    monkeypatch.setattr(trainer, "load", lambda name: type("Waiting", (load(name),), {"train_batch": waiting}))
    found, log = trained(data, tmp_path / "found")
    assert [line for line in log if "step by step" in line]
    assert left(found) == left(expected)


def test_warming_up_is_timed_and_the_peak_is_of_what_a_recorded_minibatch_uses(data, tmp_path):
    run, _ = trained(data, tmp_path / "recorded")
    eager, _ = trained(data, tmp_path / "eager", recorder=Refusing)
    assert run.clock.warmup_seconds > 0
    assert run.clock.memory.of == "gpu"
    assert 0.5 < run.clock.memory.bytes / eager.clock.memory.bytes < 2
