"""The same suite, seed and machine give the same bits; what a run starts from and sees depends on the seed alone."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import tiny
import torch
import yaml

import methods
from experiment.data import dataset
from experiment.suite import ROOT
from experiment.weights import sha256
from training import batches, trainer
from training.trainer import Trainer

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "random"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def command(data, tmp_path_factory):
    """The command line of a run of a second or two, but for where its results go."""
    file = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny.content(data, "pgd", "mplus", training={"epochs": 40})))
    return [sys.executable, "-m", "training.run", str(file), "digits/it/seed0", "--threads", "1", "--results"]


@pytest.fixture(scope="module")
def results(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    subprocess.run([*command, str(folder)], cwd=ROOT, env=ENVIRONMENT, check=True, timeout=120)
    return tiny.timeless(folder / "tiny" / "digits" / "it" / "seed0")


@pytest.mark.slow
def test_the_same_command_twice_leaves_the_same_bits(command, results, tmp_path):
    subprocess.run([*command, str(tmp_path)], cwd=ROOT, env=ENVIRONMENT, check=True, timeout=120)
    assert tiny.timeless(tmp_path / "tiny" / "digits" / "it" / "seed0") == results


@pytest.mark.slow
def test_the_same_command_after_a_sigkill_leaves_the_same_bits(command, results, tmp_path):
    folder = tmp_path / "tiny" / "digits" / "it" / "seed0"
    process = subprocess.Popen([*command, str(tmp_path)], cwd=ROOT, env=ENVIRONMENT)
    deadline = time.monotonic() + 60
    while not list(folder.glob("resume/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.2))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "train.json").exists()
    subprocess.run([*command, str(tmp_path)], cwd=ROOT, env=ENVIRONMENT, check=True, timeout=120)
    assert tiny.record(folder)["cost"]["parts"] == 2
    assert tiny.timeless(folder) == results


@pytest.mark.parametrize("method", methods.names())
def test_the_state_of_global_random_numbers_changes_nothing(data, tmp_path, method):
    suite, left = tiny.suite(data, method, tiny.growing(method), training={"epochs": 2}), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        left.append(tiny.timeless(tiny.train(suite, tmp_path / str(seed))))
    assert left[0] == left[1]


def seen_by(data, tmp_path, monkeypatch, method, rule, seed):
    """Digests of a run's initial weights and of every minibatch that it is shown; on augmented images of CIFAR-10."""
    suite = tiny.suite(data, method, rule, datasets=["cifar10"], seeds=[seed], training={"epochs": 2})
    spec = next(suite.runs()).spec
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, 10, (30,), generator=draw)
    split = (images[:24], labels[:24], images[24:], labels[24:])
    arguments = (spec, dataset("cifar10"), split, torch.device("cpu"), tmp_path / "resume", 1000)
    trainer = Trainer(*arguments, log=lambda line: None, teacher=tiny.teacher_of(spec))
    weights, shown, train = sha256(trainer.learner.network.state_dict()), [], trainer._minibatches.train

    def watched(batch, *arguments):
        images, labels = batch.images, batch.labels
        shown.append(sha256({"images": images, "labels": labels}))
        train(batch, *arguments)

    monkeypatch.setattr(trainer._minibatches, "train", watched)
    trainer.train()
    assert sha256(trainer.learner.network.state_dict()) != weights
    return weights, shown


@pytest.mark.slow
def test_initial_weights_and_minibatches_are_the_same_for_all_variants_and_others_for_another_seed(
    data, tmp_path, monkeypatch
):
    seen = {}
    for seed in (0, 1):
        variants = [(method, "constant") for method in methods.names()] + [("pgd", "mplus"), ("free", "mplus-2021")]
        found = [seen_by(data, tmp_path, monkeypatch, method, rule, seed) for method, rule in variants]
        assert all(one == found[0] for one in found)
        seen[seed] = found[0]
    assert seen[0][0] != seen[1][0]
    assert len(seen[0][1]) == 4
    assert not set(seen[0][1]) & set(seen[1][1])  # nor is any minibatch shown twice
    assert len(set(seen[0][1])) == 4


def test_no_two_purposes_draw_from_the_same_stream_of_random_numbers(data, tmp_path, monkeypatch):
    """Not the noise of the second epoch from the numbers that shuffled the first: each purpose has its own seed."""
    used = []

    def noted(*numbers, seeded=batches.seeded):
        generator = seeded(*numbers)
        used.append(generator.initial_seed())
        return generator

    monkeypatch.setattr(batches, "seeded", noted)
    monkeypatch.setattr(trainer, "seeded", noted)
    tiny.train(tiny.suite(data), tmp_path)
    assert len(used) == 1 + 4 * 3  # the run's noise; each epoch's order, augmentation and validation
    assert len(set(used)) == len(used)
