"""A run that is killed, at any moment and any number of times, ends as if it had never been interrupted."""

import hashlib
import io
import json
import os
import random
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import tiny
import torch
import yaml

import methods
from experiment import method_facts
from experiment.suite import ROOT
from training import checkpoint, trainer
from training import run as training_run
from training.clock import Clock
from training.disturbance import Load
from training.trainer import Trainer

OPTIONS = {method: [{}] for method in methods.names()}
OPTIONS["fast"].append({"start": "previous"})  # which carries its perturbation, as Free does
OPTIONS["uap"].append({"universal": "cluster"})  # which trains a module of its own
VARIANTS = [
    (method, rule, option)
    for method in OPTIONS
    for rule in method_facts.of(method).rules
    for option in OPTIONS[method]
    if rule in ("constant", "mplus") or method == "pgd"  # what a rule remembers is no method's, and is of every rule
]


class Killed(BaseException):
    """Stands for SIGKILL where the process goes on."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


@pytest.fixture
def trainers(monkeypatch):
    """All trainers that runs make, on a clock that ticks only when a minibatch is trained or time is to be left out."""
    now, made = [0.0], []

    def taking(seconds, function):
        def timed(*arguments, **options):
            now[0] += seconds
            return function(*arguments, **options)

        return timed

    monkeypatch.setattr(
        trainer,
        "Clock",
        lambda device: Clock(device, now=lambda: now[0], load=Load(lambda: now[0], lambda: 2 * now[0], lambda: 0)),
    )
    monkeypatch.setattr(Trainer, "_train_batch", taking(1, Trainer._train_batch))
    monkeypatch.setattr(trainer, "validate", taking(100, trainer.validate))
    monkeypatch.setattr(checkpoint, "save", taking(10_000, checkpoint.save))
    original = Trainer.__init__

    def noted(self, *arguments, **options):
        original(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(Trainer, "__init__", noted)
    return made


def final(trainers, folder):
    """What a finished run leaves, in its files and in its last trainer."""
    state = trainers[-1]._state()
    for key in ("parts", "started", "peak_memory"):
        del state[key]
    return {"files": tiny.timeless(folder), "state": state, "seconds": tiny.record(folder)["cost"]["seconds"]}


def same(left, right):
    """Bit for bit, all the way down."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.stride() == right.stride() and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def kill(frame):
    raise Killed


@pytest.mark.slow
@pytest.mark.parametrize(("method", "rule", "options"), VARIANTS, ids=lambda value: str(value))
def test_a_killed_run_ends_bit_identical_to_one_never_interrupted(data, tmp_path, trainers, method, rule, options):
    draw = random.Random(f"{method} {rule} {options}")
    undisturbed = tiny.suite(data, method, rule, options, checkpoint_seconds=1000)
    with tiny.at_line(None, kill) as lines:
        expected = final(trainers, tiny.train(undisturbed, tmp_path / "whole"))
    assert expected["seconds"] == 4 * 3  # epochs x minibatches: validation is not in it
    assert expected["state"]["load"] == [4 * 3, 2 * 4 * 3, 0]
    disturbed = tiny.suite(data, method, rule, options)
    for least, most in ((0.3, 0.6), (0.1, 0.4)):  # of what a whole run takes: the second attempt has less to do
        with suppress(Killed), tiny.at_line(int(lines[0] * draw.uniform(least, most)), kill):
            tiny.train(disturbed, tmp_path / "killed")
    folder = tiny.train(disturbed, tmp_path / "killed")
    assert same(final(trainers, folder), expected)  # nor are checkpoints in the seconds, which add up to the same
    assert tiny.record(folder)["cost"]["parts"] == trainers[-1].parts


@pytest.mark.slow
def test_every_moment_of_a_run_is_one_at_which_it_may_be_killed(data, tmp_path, trainers):
    """One run, killed every few lines of code, from its first to the record that it leaves."""
    suite = tiny.suite(data, "free", "mplus", training={"epochs": 3})
    expected = final(trainers, tiny.train(suite, tmp_path / "whole"))
    kills, line = 0, 150
    while True:
        try:
            with tiny.at_line(line, kill):
                folder = tiny.train(suite, tmp_path / "killed")
            break
        except Killed:
            kills += 1
            line += 37  # enough that each attempt gets a little further than the last
    assert kills >= 20
    assert same(final(trainers, folder), expected)


@pytest.mark.slow
def test_a_run_killed_with_sigkill_also_while_it_writes_ends_the_same(data, tmp_path):
    suite_file, changes = tmp_path / "tiny.yaml", {"training": {"epochs": 40}}
    suite_file.write_text(yaml.safe_dump(tiny.content(data, "free", "mplus", **changes)))
    done = subprocess.run(
        [sys.executable, tiny.__file__, str(suite_file), str(tmp_path / "killed"), "0", "9"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == ["SIGKILL"] * 9 + [0]
    folder = tmp_path / "killed" / "tiny" / "digits" / "it" / "seed0"
    left = {path.name for path in folder.iterdir()}
    assert left == {".lock", "epochs.csv", "model.safetensors", "train.json", "train.log"}
    expected = tiny.train(tiny.suite(data, "free", "mplus", **changes), tmp_path / "whole")
    assert tiny.timeless(folder) == tiny.timeless(expected)
    assert tiny.record(folder)["cost"]["parts"] > 3


# -- checkpoints that are no use ---------------------------------------------------------------------------------------


def interrupted(suite, results, minibatches=8):
    """A run's folder as a kill in that minibatch leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "load", tiny.after(minibatches, kill))
        with pytest.raises(Killed):
            tiny.train(suite, results)
    (run,) = suite.runs()
    return results / suite.name / run.folder


def test_a_run_goes_on_from_the_minibatch_of_its_last_checkpoint(data, tmp_path):
    suite = tiny.suite(data)
    folder = interrupted(suite, tmp_path)
    tiny.train(suite, tmp_path)
    assert "resumed at epoch 2, minibatch 1" in (folder / "train.log").read_text()
    assert tiny.record(folder)["cost"]["parts"] == 2
    assert not (folder / "resume").exists()


def test_the_start_of_a_resumed_run_is_that_of_its_first_part(data, tmp_path, monkeypatch):
    suite = tiny.suite(data)
    with monkeypatch.context() as then:
        then.setattr("experiment.provenance.now", lambda: "2001-02-03T04:05:06+00:00")
        folder = interrupted(suite, tmp_path)
    tiny.train(suite, tmp_path)
    provenance = tiny.record(folder)["provenance"]
    assert provenance["started"].startswith("2001")
    assert not provenance["finished"].startswith("2001")


def test_memory_that_an_earlier_part_used_is_part_of_the_peak(data, tmp_path, monkeypatch):
    suite = tiny.suite(data)
    with monkeypatch.context() as then:
        then.setattr("experiment.provenance.peak_memory", lambda device: (2**50, "process"))
        folder = interrupted(suite, tmp_path)
    tiny.train(suite, tmp_path)
    assert tiny.record(folder)["cost"]["peak_memory_bytes"] == 2**50


def checkpoint_of(folder):
    (file,) = (folder / "resume").glob("*.pt")
    return file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "what"), [("start", "cut"), ("middle", "cut"), ("end", "cut"), ("middle", "bit"), ("start", "empty")]
)
def test_a_damaged_checkpoint_is_named_and_the_run_starts_anew(data, tmp_path, capsys, place, what):
    suite = tiny.suite(data)
    folder = interrupted(suite, tmp_path / "killed")
    file = checkpoint_of(folder)
    content = bytearray(file.read_bytes())
    position = {"start": 20, "middle": len(content) // 2, "end": len(content) - 1}[place]
    if what == "bit":
        content[position] ^= 1
    file.write_bytes(b"" if what == "empty" else content if what == "bit" else content[:position])
    tiny.train(suite, tmp_path / "killed")
    for told in ((folder / "train.log").read_text(), capsys.readouterr().out):
        assert f"training starts anew: {file} is damaged\n" in told
    assert tiny.timeless(folder) == tiny.timeless(tiny.train(suite, tmp_path / "whole"))
    assert tiny.record(folder)["cost"]["parts"] == 1


@pytest.mark.slow
@pytest.mark.fault("file")
@pytest.mark.parametrize("junk", [b"", b"junk", {"state": {}}, {"identity": {}, "state": {}}, [1]])
def test_what_is_no_checkpoint_although_its_digest_is_right_is_named_and_the_run_starts_anew(
    data, tmp_path, capsys, junk
):
    suite = tiny.suite(data)
    folder = interrupted(suite, tmp_path)
    file, buffer = checkpoint_of(folder), io.BytesIO()
    torch.save(junk, buffer)
    content = junk if isinstance(junk, bytes) else buffer.getvalue()
    file.write_bytes(hashlib.sha256(content).digest() + content)
    tiny.train(suite, tmp_path)
    assert f"training starts anew: {file} is no checkpoint" in capsys.readouterr().out
    assert tiny.record(folder)["status"] == "ok"


def threads(number):
    return lambda patch: patch.setattr(torch, "get_num_threads", lambda: number)


CHANGES = {
    "spec": (lambda patch: None, "spec;"),
    "threads": (threads(7), "hardware (CPU, 1 thread; now CPU, 7 threads);"),
    "hardware": (
        lambda patch: patch.setattr("experiment.provenance.cpu_model", lambda: "Another"),
        "hardware (CPU, 1 thread; now Another, 1 thread);",
    ),
    "packages": (
        lambda patch: patch.setattr("importlib.metadata.version", lambda name: "0.0"),
        f"packages (torch {metadata.version('torch')}, ",
    ),
    "code": (
        lambda patch: patch.setattr("experiment.provenance.sha256_of", lambda kind, name: "f" * 64),
        "code;",
    ),
    "precision": (
        lambda patch: patch.setattr("experiment.precision.resolve", lambda *_: "bf16"),
        "precision (fp32; now bf16);",
    ),
}


@pytest.mark.slow
@pytest.mark.fault("version", "restart")
@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES)
def test_what_another_spec_machine_or_code_left_is_kept_and_said_and_not_gone_on_from(
    data, tmp_path, monkeypatch, capsys, change, named
):
    monkeypatch.setattr("experiment.provenance.cpu_model", lambda: "CPU")
    original = tiny.suite(data)
    folder = interrupted(original, tmp_path / "killed")
    kept = checkpoint_of(folder)
    suite = tiny.suite(data, training={"lr": 0.02}) if named == "spec;" else original
    with monkeypatch.context() as patch:
        change(patch)
        interrupted(suite, tmp_path / "killed", minibatches=2)
        sentence = f"training starts anew: {kept} was made with another {named}"
        for told in ((folder / "train.log").read_text(), capsys.readouterr().out):
            assert sentence in told
            assert "goes on from it when it is started with the same again\n" in told
        assert len(list((folder / "resume").iterdir())) == 2
        interrupted(suite, tmp_path / "killed", minibatches=1)
        assert "resumed at epoch 0, minibatch 1" in (folder / "train.log").read_text()
        assert "starts anew" not in capsys.readouterr().out
    tiny.train(original, tmp_path / "killed")
    assert "resumed at epoch 2, minibatch 1" in (folder / "train.log").read_text()
    assert tiny.timeless(folder) == tiny.timeless(tiny.train(original, tmp_path / "whole"))
    assert not (folder / "resume").exists()


def test_a_kill_between_the_record_and_the_end_costs_nothing_but_the_last_minibatch(data, tmp_path, monkeypatch):
    suite = tiny.suite(data)
    expected = tiny.timeless(tiny.train(suite, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(training_run.shutil, "rmtree", lambda *_, **__: kill(None))
        with pytest.raises(Killed):
            tiny.train(suite, tmp_path / "killed")
    folder = tmp_path / "killed" / "tiny" / "digits" / "it" / "seed0"
    assert tiny.timeless(folder) == expected
    trained = []
    monkeypatch.setattr(Trainer, "_train_batch", lambda *_: trained.append(1))
    tiny.train(suite, tmp_path / "killed")
    assert trained == []
    assert tiny.timeless(folder) == expected


def test_unfinished_files_of_killed_processes_do_not_pile_up(data, tmp_path):
    suite = tiny.suite(data)
    folder = interrupted(suite, tmp_path)
    for name in (".model.safetensors.123.tmp", "resume/.0123.pt.123.tmp", "resume/.0123.pt.456.tmp"):
        (folder / name).write_bytes(b"half")
    interrupted(suite, tmp_path, minibatches=1)
    assert not list(Path(folder).rglob("*.tmp"))


def test_checkpoints_are_made_at_the_period_that_the_suite_sets(data, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda *_: saved.append(1))
    ticks = iter(range(10_000))
    monkeypatch.setattr(trainer.time, "monotonic", lambda: float(next(ticks)))
    tiny.train(tiny.suite(data, checkpoint_seconds=2.5), tmp_path)
    assert len(saved) == 4  # of 12 minibatches: every third one, when each takes a second
