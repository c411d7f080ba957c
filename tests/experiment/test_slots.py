"""GPUs are shared out one to a job; here with a driver's tool that lists GPUs which are not there."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from evaluation import run as evaluation_run
from experiment import cores, slots
from experiment.errors import UserError
from experiment.suite import ROOT
from training import run as training_run

HOLD = """
import os, sys
from experiment import slots
with slots.gpu() as gpu, slots.timed(gpu, int(sys.argv[1])):
    print(gpu, *sorted(os.sched_getaffinity(0)), flush=True)
    input()
"""
CORES = len(cores.usable())


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sets how many GPUs the machine has; their locks lie in a folder of the test's."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)

    def has(gpus):
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        lines = "".join(f"echo {number}, GPU-{number}{number}-abc\n" for number in range(gpus))
        tool.write_text(f"#!/bin/sh\n{lines or 'exit 9'}\n")
        tool.chmod(0o755)

    return has


def holder(folder, threads=10_000):
    """A process, started in `folder`, that takes a GPU or cores, and holds them until it is told to end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(threads)],
        cwd=folder,
        env=environment,
        stdin=-1,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_each_job_sees_a_gpu_of_its_own(machine):
    machine(2)
    with slots.gpu() as one:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == one == "0"
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"  # in which nvidia-smi numbers them
        with pytest.MonkeyPatch.context() as patch:  # what another process would start with
            patch.delenv("CUDA_VISIBLE_DEVICES")
            with slots.gpu() as other:
                assert os.environ["CUDA_VISIBLE_DEVICES"] == other == "1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert "CUDA_DEVICE_ORDER" not in os.environ


def test_gpus_given_from_outside_are_the_only_ones_taken(machine, monkeypatch):
    machine(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    with slots.gpu() as one, pytest.MonkeyPatch.context() as patch:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == one == "3"
        assert "CUDA_DEVICE_ORDER" not in os.environ  # numbers from outside are in the order from outside
        patch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
        with slots.gpu() as other:
            assert other == "5"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3, 5"


@pytest.mark.parametrize("name", ["GPU-44-abc", "MIG-d85f6fa5", "MIG-GPU-44-abc/1/0"])
def test_names_from_outside_are_passed_on_as_they_are(machine, monkeypatch, name):
    machine(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{name},-1,2")
    with slots.gpu() as gpu:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu == name


@pytest.mark.parametrize("name", ["GPU-11-abc", "GPU-11"])
def test_a_gpu_has_one_slot_whatever_it_is_called(machine, monkeypatch, name):
    machine(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
    with slots.gpu(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
        with slots.gpu() as other:
            assert other == "0"


@pytest.mark.parametrize(("gpus", "visible"), [(0, None), (0, "0"), (2, ""), (2, "-1"), (2, "9,0")])
def test_where_there_is_no_gpu_to_use_no_job_waits(machine, monkeypatch, gpus, visible):
    machine(gpus)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with slots.gpu() as one, slots.gpu() as other:
        assert one is None
        assert other is None
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_a_second_job_waits_says_so_and_has_the_gpu_when_the_first_is_killed(machine, tmp_path):
    """Wherever the two were started, for locks are the machine's and not a results folder's."""
    machine(1)
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    first = holder(folders[0])
    assert first.stdout.readline().startswith("0 ")
    second = holder(folders[1])
    assert second.stdout.readline() == "waiting for a GPU; other jobs have it\n"
    first.send_signal(signal.SIGKILL)
    assert second.stdout.readline().startswith("0 ")
    second.communicate("\n", timeout=20)
    assert second.returncode == 0
    first.communicate()


@pytest.mark.fault("clock")
def test_runs_that_are_timed_on_all_cores_take_turns_and_the_killed_one_s_turn_is_over(machine, tmp_path):
    """Whatever suite, results folder or Snakemake they are of."""
    machine(0)
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    first = holder(folders[0])
    assert first.stdout.readline().startswith("None ")
    second = holder(folders[1])
    assert second.stdout.readline() == f"waiting for {CORES} of {CORES} cores; other runs are being timed on them\n"
    first.send_signal(signal.SIGKILL)
    assert second.stdout.readline().startswith("None ")
    second.communicate("\n", timeout=20)
    assert second.returncode == 0
    first.communicate()


@pytest.mark.fault("clock")
@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_runs_of_one_thread_are_timed_at_once_and_each_keeps_to_a_core_of_its_own(machine, tmp_path):
    machine(0)
    runs = [holder(tmp_path, threads=1) for _ in range(2)]
    kept = [run.stdout.readline() for run in runs]
    assert all(line.startswith("None ") for line in kept)
    assert kept[0] != kept[1]
    for run in runs:
        run.communicate("\n", timeout=20)
    before = os.sched_getaffinity(0)
    with slots.timed(None, 1):
        kept = os.sched_getaffinity(0)
    assert kept in cores.usable().values()
    assert os.sched_getaffinity(0) == before


@pytest.mark.fault("clock")
def test_a_run_that_needs_all_cores_is_not_overtaken_for_ever(machine, tmp_path):
    """It waits for the last of them, and those that come after it wait for it."""
    machine(0)
    first = holder(tmp_path, threads=1)
    first.stdout.readline()
    whole = holder(tmp_path)
    assert whole.stdout.readline().startswith(f"waiting for {CORES} of {CORES} cores")
    late = holder(tmp_path, threads=1)
    assert late.stdout.readline().startswith("waiting for ")
    first.communicate("\n", timeout=20)
    assert whole.stdout.readline().startswith("None ")
    whole.communicate("\n", timeout=20)
    assert late.stdout.readline().startswith("None ")
    late.communicate("\n", timeout=20)


def test_hardware_threads_of_one_core_are_one_core_called_by_the_lowest_of_them(monkeypatch, tmp_path):
    """Of four, 0 and 2 are one core's and 1 and 3 the other's; of one more the kernel says nothing."""
    for thread, text in enumerate(["0,2\n", "1,3\n", "0,2\n", "1,3\n"]):
        (tmp_path / str(thread)).write_text(text)
    monkeypatch.setattr(cores, "TOPOLOGY", f"{tmp_path}/{{}}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 3, 9})
    assert cores.usable() == {0: {0, 2}, 1: {3}, 9: {9}}


@pytest.mark.parametrize(
    ("threads", "quota", "runs"),
    [(1, "max 100000", 4), (2, "max 100000", 2), (3, "max 100000", 1), (9, "max 100000", 1), (None, "max 100000", 1)]
    + [(1, "400000 100000", 4), (1, "200000 100000", 1), (1, "no such", 4)],
)
def test_as_many_runs_are_timed_at_once_as_there_are_cores_for_unless_a_container_has_less_than_it_sees(
    monkeypatch, tmp_path, threads, quota, runs
):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "usable", lambda: {number: {number} for number in range(4)})
    assert slots.at_once(threads) == runs


@pytest.mark.fault("clock")
@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_a_core_that_someone_else_computes_on_is_taken_last(machine, monkeypatch):
    """Whose run may hold a lock in another folder."""
    machine(0)
    first = min(cores.usable())
    idle = dict.fromkeys(os.sched_getaffinity(0), 5.0)
    seen = iter([idle, {**idle, first: idle[first] + slots.LOOK}])
    monkeypatch.setattr(cores, "busy", lambda: next(seen))
    with slots.timed(None, 1):
        kept = os.sched_getaffinity(0)
    assert first not in kept


@pytest.mark.fault("clock")
def test_runs_that_have_a_gpu_each_are_timed_at_once(machine):
    machine(2)
    before = os.sched_getaffinity(0)
    with slots.gpu() as one, slots.timed(one), pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES")
        with slots.gpu() as other, slots.timed(other):
            assert (one, other) == ("0", "1")
            assert os.sched_getaffinity(0) == before


@pytest.mark.slow
@pytest.mark.fault("clock")
@pytest.mark.parametrize(("stage", "waits"), [("training", True), ("evaluation", False)])
def test_training_waits_while_another_run_is_timed_and_an_attack_does_not(machine, tmp_path, stage, waits):
    machine(0)
    runs = ROOT / "configs" / "quick.yaml", "digits/pgd-7/seed0"
    names = [*runs, "pgd-20"] if stage == "evaluation" else runs
    command = [sys.executable, "-u", "-m", f"{stage}.run", *map(str, names), "--results", str(tmp_path)]
    with slots.timed(None):
        job = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=-1, stderr=-1)
        lines = [job.stdout.readline().decode() for _ in range(2)]
        assert (any(line.startswith("waiting for 1 of") for line in lines)) == waits
        assert (job.poll() is None) == waits or not waits
    job.communicate(timeout=60)
    assert job.returncode != 0  # there is no data, nor a checkpoint


def test_a_folder_of_locks_that_is_another_user_s_is_refused(machine, monkeypatch):
    machine(1)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UserError, match="slots-12345 belongs to another user; set TMPDIR"), slots.gpu():
        pass


@pytest.mark.parametrize(("gpus", "visible", "count"), [(2, None, 2), (2, "GPU-00-abc", 1), (2, "", 0), (0, None, 0)])
def test_the_profile_is_told_how_many_gpus_there_are_to_share_out(machine, monkeypatch, gpus, visible, count):
    machine(gpus)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    command = [sys.executable, "-m", "experiment.slots"]
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout == f"{count}\n"


@pytest.mark.parametrize("stage", ["training", "evaluation"])
def test_training_and_evaluation_take_a_gpu_each(machine, monkeypatch, tmp_path, stage):
    machine(1)
    seen = []

    def job(*_):
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return {"accuracy": None}

    module, name = (training_run, "train") if stage == "training" else (evaluation_run, "evaluate")
    monkeypatch.setattr(module, name, job)
    arguments = ["configs/quick.yaml", "digits/pgd-7/seed0", "--results", str(tmp_path), "--threads", "1"]
    monkeypatch.chdir(ROOT)
    module.main(arguments if stage == "training" else arguments[:2] + ["pgd-20"] + arguments[2:])
    assert seen == ["0"]
