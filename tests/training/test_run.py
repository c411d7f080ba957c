"""How a run ends that does not end well, and what it never sees."""

import csv
import errno
import json
import os
import subprocess
import sys

import pytest
import tiny
import torch
import yaml

from evaluation.run import evaluate
from experiment.suite import ROOT
from training import run as training_run
from training import trainer
from training.validation import Accuracies

FOLDER = "tiny/digits/it/seed0"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


def rows(folder):
    with open(folder / "epochs.csv") as file:
        return list(csv.DictReader(file))


def raising(error):
    def fail(learner):
        raise error

    return fail


# -- honest failures ---------------------------------------------------------------------------------------------------


def poison(learner):
    with torch.no_grad():
        learner.network.classifier.weight[0, 0] = torch.nan


@pytest.mark.parametrize(
    ("minibatches", "epoch", "reason"),
    [
        (1, 0, "the training loss is not finite"),
        (4, 1, "the training loss is not finite"),
        (6, 1, "the network's weights are not finite"),  # by the last update of an epoch: its loss was finite
        (12, 3, "the network's weights are not finite"),
    ],
)
@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_a_run_whose_loss_is_not_finite_has_diverged_and_is_a_finished_job(
    data, tmp_path, monkeypatch, minibatches, epoch, reason, checkpoint
):
    monkeypatch.setattr(trainer, "load", tiny.after(minibatches, poison))
    suite = tiny.suite(data, "fast", "mplus", training={"checkpoint": checkpoint})
    folder = tiny.train(suite, tmp_path)
    record = tiny.record(folder)
    assert (record["status"], record["status_epoch"], record["status_reason"]) == ("diverged", epoch, reason)
    assert record["epochs"]["completed"] == epoch + 1 == len(rows(folder))
    assert rows(folder)[epoch]["validation_pgd_accuracy"] == ""
    assert "NaN" not in (folder / "train.json").read_text()
    assert not (folder / "resume").exists()
    result = evaluate(suite, next(suite.runs()), "pgd-3", folder)
    assert (result["status"], result["accuracy"], result["correct"]) == ("not-evaluated", None, None)


def test_a_learning_rate_that_is_far_too_high_ends_in_divergence_not_in_an_error(data, tmp_path):
    folder = tiny.train(tiny.suite(data, "free", "mplus", training={"lr": 1e30}), tmp_path)
    assert tiny.record(folder)["status"] == "diverged"


@pytest.fixture
def collapsing(monkeypatch):
    """Validation that sees the accuracies of a run that collapses in its third epoch and recovers."""
    seen = [Accuracies(0.9, 0.5, 0.4), Accuracies(0.9, 0.6, 0.5), Accuracies(0.9, 0.9, 0.0), Accuracies(0.9, 0.6, 0.3)]
    validate = trainer.validate

    def validated(*arguments):
        validate(*arguments)
        return seen[len(made[-1].rows)]

    made, original = [], trainer.Trainer.__init__

    def noted(self, *arguments, **options):
        made.append(self)
        original(self, *arguments, **options)

    monkeypatch.setattr(trainer, "validate", validated)
    monkeypatch.setattr(trainer.Trainer, "__init__", noted)


def test_a_run_that_collapses_says_when_and_why_and_goes_on(data, tmp_path, collapsing):
    suite = tiny.suite(data, "fast", "mplus")
    folder = tiny.train(suite, tmp_path)
    record = tiny.record(folder)
    assert (record["status"], record["status_epoch"]) == ("collapsed", 2)
    assert record["status_reason"] == "validation PGD accuracy fell to 0.0% from 50.0% while FGSM accuracy is 90.0%"
    assert record["epochs"] == {"total": 4, "completed": 4, "best": 1, "evaluated": 1}
    assert [float(row["validation_pgd_accuracy"]) for row in rows(folder)] == [0.4, 0.5, 0.0, 0.3]
    assert all(float(row["magnitude"]) > 0 and int(row["steps"]) >= 0 for row in rows(folder))
    assert evaluate(suite, next(suite.runs()), "pgd-3", folder)["status"] == "ok"


@pytest.mark.parametrize("minibatches", [8, 10, 12])  # before the epoch's end at which it is seen, and after
def test_a_collapse_survives_a_kill(data, tmp_path, monkeypatch, collapsing, minibatches):
    suite = tiny.suite(data, "fast", "mplus")
    with monkeypatch.context() as killed:
        killed.setattr(trainer, "load", tiny.after(minibatches, raising(KeyboardInterrupt())))
        with pytest.raises(KeyboardInterrupt):
            tiny.train(suite, tmp_path / "killed")
    folder = tiny.train(suite, tmp_path / "killed")
    assert tiny.record(folder)["cost"]["parts"] == 2
    assert tiny.timeless(folder) == tiny.timeless(tiny.train(suite, tmp_path / "whole"))


# -- a device or a disk that fails -------------------------------------------------------------------------------------


@pytest.fixture
def command(data, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny.content(data)))
    return [str(tmp_path / "tiny.yaml"), "digits/it/seed0", "--results", str(tmp_path / "results")]


def sentence(command):
    with pytest.raises(SystemExit) as ended:
        training_run.main(command)
    assert isinstance(ended.value.code, str)  # which Python prints before it exits with 1
    assert "\n" not in ended.value.code
    return ended.value.code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "text"),
    [
        (lambda learner: torch.empty(2**50), "out of memory (4503599627370496 bytes more were asked for)"),
        (
            raising(
                torch.OutOfMemoryError(
                    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB of which 1 "
                    "GiB is free.\nIf reserved but unallocated memory is large try ..."
                )
            ),
            "out of memory (2.00 GiB more were asked for)",
        ),
        (raising(MemoryError()), "out of memory; free some"),
        (
            raising(RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be ...")),
            "the GPU failed (CUDA error: unspecified launch failure",
        ),
        (raising(OSError(errno.EIO, "Input/output error", "x.pt")), "Input/output error: x.pt"),
    ],
    ids=["memory of the CPU", "memory of the GPU", "memory of Python", "GPU", "disk"],
)
def test_a_device_that_fails_ends_the_run_in_one_sentence_and_the_run_goes_on_later(
    data, tmp_path, monkeypatch, command, event, text
):
    with monkeypatch.context() as broken:
        broken.setattr(trainer, "load", tiny.after(8, event))
        assert sentence(command).startswith(f"error: digits/it/seed0: {text}")
    folder = tmp_path / "results" / FOLDER
    assert not (folder / "train.json").exists()
    training_run.main(command)
    assert "resumed at epoch 2, minibatch 1" in (folder / "train.log").read_text()
    assert tiny.timeless(folder) == tiny.timeless(tiny.train(tiny.suite(data), tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("writes", [5, 13, 14, 15])  # checkpoints, and then weights, epochs and the record
def test_a_full_disk_ends_the_run_in_one_sentence_and_spoils_nothing(data, tmp_path, monkeypatch, command, writes):
    other = tmp_path / "results" / "tiny" / "digits" / "other" / "seed0"
    other.mkdir(parents=True)
    (other / "train.json").write_text("finished")
    fsync, left = os.fsync, [writes]

    def full(descriptor):
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        assert sentence(command) == "error: digits/it/seed0: No space left on device"
    folder = tmp_path / "results" / FOLDER
    assert not (folder / "train.json").exists()
    assert not list(folder.rglob("*.tmp"))
    assert (other / "train.json").read_text() == "finished"
    training_run.main(command)
    assert tiny.record(folder)["cost"]["parts"] == 2
    assert tiny.timeless(folder) == tiny.timeless(tiny.train(tiny.suite(data), tmp_path / "whole"))


def test_a_log_that_cannot_be_written_is_a_full_disk_too(monkeypatch, command):
    monkeypatch.setattr(training_run, "open_own", lambda path, mode: open("/dev/full", mode))  # noqa: SIM115
    assert sentence(command) == "error: digits/it/seed0: No space left on device"


@pytest.mark.fault("file")
@pytest.mark.parametrize("name", ["train.log", ".lock"])
def test_a_link_among_the_files_of_a_run_is_refused_and_what_it_points_to_stays(tmp_path, command, name):
    folder, precious = tmp_path / "results" / FOLDER, tmp_path / "thesis.tex"
    folder.mkdir(parents=True)
    precious.write_text("years of work")
    (folder / name).symlink_to(precious)
    assert f"{folder / name} is a symbolic link" in sentence(command)
    assert precious.read_text() == "years of work"


def test_results_that_are_read_only_end_the_run_in_one_sentence(tmp_path, monkeypatch, command):
    def read_only(path, *_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as mounted:
        mounted.setattr(os, "mkdir", read_only)
        assert sentence(command).startswith("error: digits/it/seed0: Read-only file system: ")
    (tmp_path / "results").write_text("no folder")
    assert sentence(command) == f"error: digits/it/seed0: Not a directory: {tmp_path / 'results' / FOLDER}"


def test_a_mistake_in_the_code_keeps_its_traceback(monkeypatch, command):
    for error in (ValueError("shape"), RuntimeError("mat1 and mat2 shapes cannot be multiplied")):
        monkeypatch.setattr(trainer, "load", tiny.after(2, raising(error)))
        with pytest.raises(type(error), match=str(error)):
            training_run.main(command)


# -- the test split ----------------------------------------------------------------------------------------------------

AUDITED = """
import json, sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from training import run
run.main(sys.argv[1:])
print(json.dumps({"opened": opened, "modules": list(sys.modules)}))
"""


@pytest.mark.slow
def test_training_cannot_reach_the_test_split(data, tmp_path):
    """Not one byte of it: it is gone, and in its place is a pipe that would hold up for ever who opens it."""
    bare, results = tmp_path / "bare", tmp_path / "results"
    folder = bare / "prepared" / "digits"
    folder.mkdir(parents=True)
    (folder / "train.safetensors").write_bytes((data / "prepared" / "digits" / "train.safetensors").read_bytes())
    os.mkfifo(folder / "test.safetensors")
    suite_file = tmp_path / "tiny.yaml"
    suite_file.write_text(yaml.safe_dump(tiny.content(bare, "free", "mplus")))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            AUDITED,
            str(suite_file),
            "digits/it/seed0",
            "--results",
            str(results),
            "--threads",
            "1",
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    own = [path for path in seen["opened"] if not path.startswith((sys.prefix, sys.base_prefix))]
    assert any(path.endswith("train.log") for path in own)  # so files that are opened are seen
    assert not [path for path in own if "test.safetensors" in path or "t10k" in path or "test_batch" in path]
    assert not [path for path in own if path.startswith(str(bare))]
    assert not [path for path in seen["opened"] if "digits.csv" in path]  # scikit-learn's copy of all the digits
    # What could read raw files, or attack; a suite is checked with the keys of its attacks.
    attacking = {"sklearn", "torchvision", "pyautoattack", "evaluation.run", "evaluation.verify", "evaluation.chunks"}
    assert not attacking & set(seen["modules"])
    expected = tiny.train(tiny.suite(data, "free", "mplus"), tmp_path / "with")
    assert tiny.timeless(results / FOLDER) == tiny.timeless(expected)


@pytest.mark.fault("input")
@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("yopo", {"inner_steps": -2}, "options.inner_steps is -2; it must lie between 1 and 1000"),
        ("n_fgsm", {"noise": -0.5}, "options.noise is -0.5; it must lie between 0 and 1000"),
        ("n_fgsm", {"noise": "-5e-05"}, "options.noise is -5e-05"),
        ("fast", {"start": "Zero"}, "random, zero, previous"),
    ],
)
def test_options_out_of_their_range_are_refused_by_hand_too_and_nothing_is_lost(tmp_path, method, options, says):
    (tmp_path / "suite.yaml").write_text(json.dumps(tiny.content(tmp_path / "data", method, options=options)))
    log = tmp_path / "results" / "tiny" / "digits" / "it" / "seed0" / "train.log"
    log.parent.mkdir(parents=True)
    log.write_text("of an earlier run\n")
    with pytest.raises(SystemExit) as ended:
        training_run.main([str(tmp_path / "suite.yaml"), "digits/it/seed0", "--results", str(tmp_path / "results")])
    assert says in ended.value.code
    assert "\n" not in ended.value.code
    assert log.read_text() == "of an earlier run\n"
