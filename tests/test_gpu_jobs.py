"""Jobs on several GPUs, in a copy of the project whose jobs only say when they ran, and on which GPU."""

import os
import subprocess
import sys

import pytest
from test_workflow import TINY, Project

pytestmark = pytest.mark.workflow
STUB = """
import sys, time
from pathlib import Path

began = time.time()
from experiment import slots

_, _, run, _, threads = sys.argv
stage, folder = Path(__file__).parent.name, Path("results/tiny") / run
outputs = ["train.json", "epochs.csv", "model.safetensors"]
if stage == "evaluation":
    attacks = ("clean", "pgd-3", "autoattack")
    outputs = [f"evaluate/{attack}.{kind}" for attack in attacks for kind in ("json", "robust.npy")]
with slots.gpu() as gpu:
    time.sleep(1)
    for name in outputs:
        (folder / name).write_text("")
with open("jobs.txt", "a") as file:
    print(began, time.time(), gpu, threads, stage, file=file)
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Start, end, GPU, threads and stage of three training jobs and three evaluations, on two GPUs and six cores."""
    project = Project(tmp_path_factory.mktemp("project"))
    folder = project.folder
    for stage in ("training", "evaluation"):
        (folder / stage / "run.py").write_text(STUB)
    tool = folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 0, GPU-00\necho 1, GPU-11\n")
    tool.chmod(0o755)
    project.suite()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    environment |= {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    runs = (variant["label"] for variant in TINY["variants"])
    goals = [f"results/tiny/digits/{run}/seed0/evaluate/clean.json" for run in runs]
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--cores", "6", *goals]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "waiting for" not in done.stdout  # nobody has to: Snakemake starts no more jobs than there are GPUs
    lines = [line.split() for line in (folder / "jobs.txt").read_text().splitlines()]
    return [(float(began), float(ended), *others) for began, ended, *others in lines]


def test_there_are_as_many_jobs_at_a_time_as_gpus_whatever_they_do(jobs):
    assert len(jobs) == 6
    at_once = [sum(began <= start < ended for began, ended, *_ in jobs) for start, *_ in jobs]
    assert max(at_once) == 2


def test_jobs_at_the_same_time_are_on_gpus_of_their_own(jobs):
    for began, ended, gpu, *_ in jobs:
        beside = [other for start, end, other, *_ in jobs if start < ended and began < end]
        assert beside.count(gpu) == 1


def test_training_jobs_share_the_cores(jobs):
    assert [threads for *_, threads, stage in jobs if stage == "training"] == ["3"] * 3
