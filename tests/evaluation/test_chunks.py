"""An evaluation that is killed goes on after its last finished chunk and says what one that never was would say."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from evaluation import chunks, run
from evaluation.run import evaluate
from experiment import consistency, record, weights
from experiment.errors import UserError
from experiment.suite import ROOT, Suite

CHUNK = 4


class Killed(BaseException):
    """Stands for SIGKILL where the process goes on."""


@pytest.fixture
def folder(checkpoint, tmp_path, monkeypatch):
    """A copy of the run's folder, where evaluations work in chunks of 4 images."""
    monkeypatch.setattr(chunks, "CHUNK", CHUNK)
    copy = tmp_path / "results" / checkpoint.suite.name / checkpoint.run.folder
    shutil.copytree(checkpoint.folder, copy)
    return copy


@pytest.fixture
def attacked(monkeypatch):
    """Counts of images of all chunks that are attacked; `fails[n]` is raised in the n-th of them."""
    attack, counts = chunks.attack, []

    def counting(settings, network, images, labels, seed):
        counts.append(len(images))
        if error := counting.fails.get(len(counts)):
            raise error
        return attack(settings, network, images, labels, seed=seed)

    counting.fails = {}
    counts_and_fails = type("Attacked", (), {"counts": counts, "fails": counting.fails})
    monkeypatch.setattr(chunks, "attack", counting)
    return counts_and_fails


def capped(checkpoint, images=10, **attack):
    """The checkpoint's suite with fewer test images."""
    content = json.loads(json.dumps(checkpoint.suite.resolved))
    content["evaluation"]["max_test_images"] = images
    for settings in content["evaluation"]["attacks"]:
        settings |= {"images": None} | (attack if settings["name"] == "pgd-20" else {})
    return Suite.from_mapping(content)


def left(folder, name):
    """Everything that an evaluation leaves but times."""
    result = record.read(folder / "evaluate" / f"{name}.json")
    del result["seconds"], result["provenance"]["started"], result["provenance"]["finished"]
    return result, np.load(folder / "evaluate" / f"{name}.robust.npy").tolist()


def parts(folder, name):
    return sorted(path.name for path in (folder / "evaluate" / f".{name}.parts").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "chunks"),
    [
        ("clean", [4, 4, 2]),
        ("fgsm", [4, 4, 2]),
        ("pgd-20", [4, 4, 2]),
        ("margin-20", [4, 4, 2]),
        ("autoattack", [4, 1]),
    ],
)
def test_a_killed_evaluation_goes_on_at_the_next_chunk_and_ends_the_same(
    checkpoint, folder, attacked, tmp_path, name, chunks
):
    """Whatever the state of global random numbers, from which attacks' packages might draw, is in either process."""
    suite, whole = capped(checkpoint, images=sum(chunks)), tmp_path / "whole"
    shutil.copytree(folder, whole)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    evaluate(suite, checkpoint.run, name, whole)
    assert attacked.counts == chunks
    attacked.counts.clear()
    attacked.fails[len(chunks)] = Killed()
    with pytest.raises(Killed):
        evaluate(suite, checkpoint.run, name, folder)
    assert parts(folder, name) == ["0.json", "4.json"][: len(chunks) - 1]
    assert not (folder / "evaluate" / f"{name}.json").exists()
    attacked.counts.clear()
    attacked.fails.clear()
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    evaluate(suite, checkpoint.run, name, folder)
    assert attacked.counts == chunks[-1:]
    assert left(folder, name) == left(whole, name)
    assert parts(folder, name) == []


KILLED_IN_THE_THIRD_WRITE = f"""
import os, signal, sys
from evaluation import chunks, run
chunks.CHUNK, replace, left = {CHUNK}, os.replace, [3]
def replace_or_die(source, target):
    left[0] -= 1
    if left[0] == 0:
        os.truncate(source, 10)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = replace_or_die
run.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_an_evaluation_killed_with_sigkill_while_it_writes_loses_that_chunk_alone(
    checkpoint, folder, attacked, tmp_path
):
    suite_file, suite = tmp_path / "suite.yaml", capped(checkpoint)
    suite_file.write_text(yaml.safe_dump(suite.resolved))
    shutil.copytree(folder, tmp_path / "whole")
    arguments = [str(suite_file), checkpoint.run.folder, "pgd-20", "--results", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_THIRD_WRITE, *arguments, "--threads", "1"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    assert [name for name in parts(folder, "pgd-20") if not name.startswith(".")] == ["0.json", "4.json"]
    run.main(arguments)
    assert attacked.counts == [2]
    evaluate(suite, checkpoint.run, "pgd-20", tmp_path / "whole")
    assert left(folder, "pgd-20") == left(tmp_path / "whole", "pgd-20")


def interrupted(checkpoint, folder, attacked):
    attacked.fails[3] = Killed()
    with pytest.raises(Killed):
        evaluate(capped(checkpoint), checkpoint.run, "pgd-20", folder)
    attacked.fails.clear()
    attacked.counts.clear()


def test_chunks_of_other_weights_are_of_no_use(checkpoint, folder, attacked):
    interrupted(checkpoint, folder, attacked)
    other = weights.load(folder / "model.safetensors", record.read(folder / "train.json")["weights_sha256"])
    other["classifier.bias"] += 1e-3
    trained = record.read(folder / "train.json")
    trained["weights_sha256"] = weights.save(folder / "model.safetensors", other)
    record.write(folder / "train.json", trained)
    evaluate(capped(checkpoint), checkpoint.run, "pgd-20", folder)
    assert attacked.counts == [4, 4, 2]


@pytest.mark.parametrize("attack", [{"seed": 1}, {"step_size": 0.01}, {"restarts": 3}])
def test_chunks_of_other_settings_are_of_no_use(checkpoint, folder, attacked, attack):
    interrupted(checkpoint, folder, attacked)
    evaluate(capped(checkpoint, **attack), checkpoint.run, "pgd-20", folder)
    assert attacked.counts == [4, 4, 2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("experiment.provenance.sha256_of", lambda kind, name: "f" * 64),
        ("experiment.provenance.cpu_model", lambda: "Another CPU"),
    ],
)
def test_chunks_of_other_code_or_hardware_are_of_no_use(checkpoint, folder, attacked, monkeypatch, name, value):
    interrupted(checkpoint, folder, attacked)
    monkeypatch.setattr(name, value)
    evaluate(capped(checkpoint), checkpoint.run, "pgd-20", folder)
    assert attacked.counts == [4, 4, 2]


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["", "{", "null", "[]", '{"robust": [true]}'])
def test_a_damaged_chunk_is_made_again(checkpoint, folder, attacked, tmp_path, damaged):
    shutil.copytree(folder, tmp_path / "whole")
    evaluate(capped(checkpoint), checkpoint.run, "pgd-20", tmp_path / "whole")
    attacked.counts.clear()
    interrupted(checkpoint, folder, attacked)
    (folder / "evaluate" / ".pgd-20.parts" / "4.json").write_text(damaged)
    evaluate(capped(checkpoint), checkpoint.run, "pgd-20", folder)
    assert attacked.counts == [4, 2]
    assert left(folder, "pgd-20") == left(tmp_path / "whole", "pgd-20")


def test_weights_that_the_record_does_not_name_are_not_attacked(checkpoint, folder):
    file = folder / "model.safetensors"
    trained = record.read(folder / "train.json")["weights_sha256"]
    other = weights.load(file, trained)
    other["classifier.bias"] += 1
    weights.save(file, other)
    with pytest.raises(UserError, match="model.safetensors has weights of SHA-256"):
        evaluate(capped(checkpoint), checkpoint.run, "clean", folder)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        evaluate(capped(checkpoint), checkpoint.run, "clean", folder)
    file.unlink()
    with pytest.raises(UserError, match="model.safetensors is missing"):
        evaluate(capped(checkpoint), checkpoint.run, "clean", folder)
    assert not (folder / "evaluate" / "clean.json").exists()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ..."),
            "out of memory (2.00 GiB",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (RuntimeError("CUDA error: unspecified launch failure"), "the GPU failed (CUDA error"),
    ],
)
def test_a_device_or_disk_that_fails_ends_it_in_one_sentence_and_keeps_what_is_finished(
    checkpoint, folder, attacked, tmp_path, capsys, error, text
):
    suite_file = tmp_path / "suite.yaml"
    suite_file.write_text(yaml.safe_dump(capped(checkpoint).resolved))
    attacked.fails[2] = error
    arguments = [str(suite_file), checkpoint.run.folder, "pgd-20", "--results", str(tmp_path / "results")]
    with pytest.raises(SystemExit) as ended:
        run.main(arguments)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {checkpoint.run.folder} pgd-20: {text}")
    assert said.count("\n") == 1
    assert not (folder / "evaluate" / "pgd-20.json").exists()
    assert parts(folder, "pgd-20") == ["0.json"]
    record.read(folder / "train.json")


@pytest.mark.slow
@pytest.mark.fault("file")
@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: [],
        lambda stored: {"identity": stored["identity"]},
        lambda stored: stored | {"robust": stored["robust"][1:]},
        lambda stored: stored | {"robust": ["yes"] * len(stored["robust"])},
        lambda stored: stored | {"robust": 5},
        lambda stored: stored | {"flags": [1]},
        lambda stored: stored | {"seconds": "long"},
        lambda stored: stored | {"seconds": float("inf")},
        lambda stored: {key: value for key, value in stored.items() if key != "identity"},
    ],
)
def test_a_part_that_holds_something_else_than_a_chunk_is_attacked_again(checkpoint, folder, attacked, damage):
    attacked.fails[2] = Killed()
    with pytest.raises(Killed):
        evaluate(capped(checkpoint), checkpoint.run, "clean", folder)
    part = folder / "evaluate" / ".clean.parts" / "0.json"
    part.write_text(json.dumps(damage(json.loads(part.read_text()))))
    attacked.fails.clear()
    evaluate(capped(checkpoint), checkpoint.run, "clean", folder)
    assert attacked.counts == [4, 4, 4, 4, 2]


@pytest.mark.fault("file")
def test_weights_of_another_network_are_one_sentence_though_the_record_names_them(checkpoint, folder):
    file = folder / "model.safetensors"
    trained = json.loads((folder / "train.json").read_text())
    other = weights.load(file, trained["weights_sha256"])
    other["classifier.bias"] = other["classifier.bias"][1:]
    trained["weights_sha256"] = weights.save(file, other)
    (folder / "train.json").write_text(json.dumps(trained))
    with pytest.raises(UserError, match="model.safetensors has weights of another network than the run's"):
        evaluate(capped(checkpoint), checkpoint.run, "clean", folder)


@pytest.mark.fault("file")
def test_unfinished_files_of_killed_evaluations_do_not_pile_up_and_those_of_other_attacks_stay(checkpoint, folder):
    evaluations = folder / "evaluate"
    other = evaluations / ".clean-2.json.7.tmp"
    for file in (evaluations / ".clean.json.1.tmp", evaluations / ".clean.parts" / ".0.json.2.tmp", other):
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(b"half")
    evaluate(capped(checkpoint), checkpoint.run, "clean", folder)
    assert list(folder.rglob("*.tmp")) == [other]


@pytest.mark.fault("stale")
def test_an_evaluation_by_other_sources_than_its_attack_s_is_made_again(checkpoint, folder, attacked):
    suite = capped(checkpoint, images=4)
    for name in ("clean", "fgsm"):
        evaluate(suite, checkpoint.run, name, folder)
        assert consistency.reason_to_evaluate(suite, checkpoint.run, name, folder) is None
    file = folder / "evaluate" / "fgsm.json"
    made = json.loads(file.read_text())
    made["provenance"]["sources"]["attack"] = "0" * 64
    file.write_text(json.dumps(made))
    why = consistency.reason_to_evaluate(suite, checkpoint.run, "fgsm", folder)
    assert why == "the sources of attack fgsm are not those that it was made with"
    assert consistency.reason_to_evaluate(suite, checkpoint.run, "clean", folder) is None
