"""Where a record comes from: all that may have made a difference, nothing that names the machine or its user."""

import getpass
import hashlib
import json
import platform
import subprocess

import pytest
import torch

from experiment import provenance, record
from experiment.errors import UserError
from experiment.suite import ROOT, Suite

QUICK = Suite.load(ROOT / "configs" / "quick.yaml").resolved


SPEC = next(Suite.load(ROOT / "configs" / "quick.yaml").runs()).spec


@pytest.fixture(scope="module")
def collected():
    made_of = provenance.made_of("training", provenance.named_by_run(SPEC))
    return provenance.collect(torch.device("cpu"), "fp32", provenance.now(), QUICK, made_of)


def strings(value):
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from strings(part)
    elif isinstance(value, str):
        yield value


def test_everything_that_can_make_a_difference_is_named(collected):
    assert collected["hardware"]["cpu"]
    assert collected["hardware"]["threads"] == torch.get_num_threads()
    assert collected["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert all(collected["packages"].values())
    assert collected["python"] == platform.python_version()
    assert collected["precision"] == "fp32"
    assert collected["started"] <= collected["finished"]
    assert collected["started"].endswith("+00:00")
    for sha256 in (collected["suite_sha256"], *collected["sources"].values()):
        assert len(bytes.fromhex(sha256)) == 32


def test_it_fits_the_schema_of_a_record(collected):
    quick = ROOT / "results" / "reference" / "quick" / "digits" / "pgd-7" / "seed0"
    for path in (quick / "train.json", quick / "evaluate" / "clean.json"):
        record.check(record.read(path) | {"provenance": collected}, "here")


def test_nothing_names_the_host_the_user_or_a_folder(monkeypatch):
    marks = {name: f"marked-{name.lower()}" for name in ("USER", "LOGNAME", "HOSTNAME", "HOME", "TMPDIR")}
    for name, mark in marks.items():
        monkeypatch.setenv(name, f"/{mark}" if name in ("HOME", "TMPDIR") else mark)
    monkeypatch.setattr("socket.gethostname", lambda: "marked-host")
    monkeypatch.setattr("platform.node", lambda: "marked-host")
    local = QUICK | {"data_dir": "/marked-data", "mirrors": {"cifar10": ["file:///marked-mirror"]}}
    found = provenance.collect(torch.device("cpu"), "fp32", provenance.now(), local, {"engine": "0" * 64})
    text = json.dumps(found)
    assert "marked" not in text
    assert str(ROOT) not in text
    assert platform.node() not in text
    assert getpass.getuser() not in text
    assert not any(part.startswith(("/", "~", "file:")) for part in strings(found))


def test_a_suite_s_hash_is_of_what_it_asks_for_and_not_of_where_its_data_lie():
    same = QUICK | {"data_dir": "elsewhere", "mirrors": {"cifar10": ["https://there/"]}, "checkpoint_seconds": 1}
    same |= {"evaluation": QUICK["evaluation"] | {"equivalence_margin": 0.5}}  # of tables, made from the same records
    same = dict(reversed(same.items()))
    assert provenance.suite_sha256(same) == provenance.suite_sha256(QUICK)
    for changed in ({"seeds": [0, 1]}, {"threat": QUICK["threat"] | {"eps": 0.2}}, {"threads": 2}):
        assert provenance.suite_sha256(QUICK | changed) != provenance.suite_sha256(QUICK)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of a few files in place of this one."""
    for name in (
        "experiment/a.py",
        "experiment/models/b.py",
        "methods/method.py",
        "methods/mine/method.py",
        "README.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "methods/mine/defaults.yaml").write_text("steps: {}")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def test_a_source_hash_can_be_made_again_by_hand(project):
    name = "experiment/a.py"
    expected = hashlib.sha256(f"{name} {len(name)}\n{name}".encode()).hexdigest()
    assert provenance.source_sha256([project / name]) == expected


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.fault("stale")
def test_a_checkout_has_its_commit_and_is_dirty_when_its_sources_are_not_the_commit_s(project):
    assert provenance.git() == {"commit": None, "dirty": None}
    git(project, "init")
    git(project, "add", ".")
    git(project, "commit", "-m", "first")
    clean = {"commit": git(project, "rev-parse", "HEAD"), "dirty": False}
    assert provenance.git() == clean
    (project / "notes.txt").write_text("mine")  # untracked, and no source
    assert provenance.git() == clean
    (project / "methods/mine/helper.py").write_text("untracked")
    assert provenance.git() == clean | {"dirty": True}
    (project / "methods/mine/helper.py").unlink()
    (project / "methods/mine/__pycache__").mkdir()
    (project / "methods/mine/__pycache__/method.cpython-311.pyc").write_text("made by Python")
    assert provenance.git() == clean
    (project / ".git/info/exclude").write_text("*.pt\n/experiment/models/private/\n")
    for ignored in ("methods/mine/nets/start.pt", "experiment/models/private/net.py"):
        (project / ignored).parent.mkdir(exist_ok=True)
        (project / ignored).write_text("git knows nothing of it")
        assert provenance.git() == clean | {"dirty": True}
        (project / ignored).unlink()
    assert provenance.git() == clean
    (project / "experiment/a.py").write_text("changed")
    assert provenance.git() == clean | {"dirty": True}


def test_the_commit_of_a_checkout_around_the_project_is_not_taken_for_its_own(project):
    git(project, "init")
    git(project, "add", ".")
    git(project, "commit", "-m", "theirs")
    inner = project / "experiment"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "ROOT", inner)
        assert provenance.git() == {"commit": None, "dirty": None}


def test_a_gpu_is_named_with_its_driver_and_libraries(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: type("Properties", (), {"total_memory": 2**37})()
    )
    monkeypatch.setattr(provenance, "_nvidia_smi", lambda field: f"the {field}")
    found = provenance.hardware(torch.device("cuda"))
    assert found["label"] == found["gpu"] == "NVIDIA H200"
    assert found["driver"] == "the driver_version"
    assert {"cpu", "threads", "cuda", "cudnn", "gpu_memory_bytes"} <= set(found)


def test_threads_are_in_the_label_that_cpu_times_are_compared_by(monkeypatch):
    labels = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        labels.append(provenance.hardware(torch.device("cpu"))["label"])
    assert labels[0].endswith(", 1 thread")
    assert labels[1].endswith(", 2 threads")


def test_a_gpu_that_jobs_cannot_take_turns_on_is_refused(monkeypatch):
    provenance.check_slot(None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    provenance.check_slot("0")
    with pytest.raises(UserError, match="nvidia-smi does not list.*CUDA_VISIBLE_DEVICES"):
        provenance.check_slot(None)
