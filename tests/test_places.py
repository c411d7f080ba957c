"""The suite runs where people run it: in any folder, from any folder, from a notebook's shell."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from test_workflow import TINY, Project

pytestmark = pytest.mark.workflow


@pytest.mark.fault("place")
@pytest.mark.fault("input")
def test_it_runs_from_elsewhere_in_a_folder_with_a_space_started_from_a_notebook_with_a_small_number(tmp_path):
    project, elsewhere = Project(tmp_path / "my project"), tmp_path / "else where"
    (elsewhere / "methods").mkdir(parents=True)  # which must not be taken for the project's
    variant = {"label": "noise", "method": "n_fgsm", "options": {"noise": 0.00005}}
    suite = project.suite(variants=[variant], evaluation={"max_test_images": 40, "attacks": ["clean"]})
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", project.folder / "Snakefile", "--configfile", suite],
        cwd=elsewhere,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout
    assert len(pd.read_csv(elsewhere / "results/tiny/runs.csv")) == 1
    assert (elsewhere / "data").is_dir()
    assert not (project.folder / "results").exists()
    planned = project.snakemake("-n", "-d", str(elsewhere))
    assert "Nothing to be done" in planned.stdout, planned.stdout


@pytest.mark.fault("place")
def test_a_key_given_alone_changes_the_default_suite(tmp_path):
    done = Project(tmp_path).snakemake("-n", "--config", "checkpoint_seconds=10", configfile=None)
    assert done.returncode == 0, done.stdout
    assert "train digits deat+mplus seed 2" in done.stdout


def test_the_tiny_suite_is_not_changed_by_a_key_of_the_default_one(tmp_path):
    project = Project(tmp_path)
    project.suite()
    done = project.snakemake("-n", "--config", "checkpoint_seconds=10")
    assert done.returncode == 0, done.stdout
    assert "quick" not in done.stdout
    assert len(TINY["variants"]) == done.stdout.count(": train digits")
