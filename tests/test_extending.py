"""A stranger's walk: what docs/extending.md adds to the project trains and is attacked, file by file as it stands."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from experiment.provenance import ROOMS
from experiment.suite import ROOT

pytestmark = pytest.mark.slow

TEXT = (ROOT / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"^`([\w/]+\.(?:py|yaml))`\n\n```\w+\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the files that the text adds, and digits as a user's own .npz."""
    folder = tmp_path_factory.mktemp("project")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        assert not (folder / name).exists(), f"{name} is there already"
        (folder / name).write_text(text)
    digits = load_digits()
    images, labels = np.rint(digits.images * 255 / 16).astype(np.uint8), digits.target
    np.savez(
        folder / "mine.npz",
        **{"train_images": images[:900], "train_labels": labels[:900]},
        **{"test_images": images[900:1000], "test_labels": labels[900:1000]},
    )
    return folder


def run(project, *command):
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kind_that_needs_a_file_is_shown_with_one():
    rooms = {"steps", "evaluation/attacks", "experiment/models", "training/optimizers", "training/schedules"}
    assert {name.rpartition("/")[0] for name in FILES} == rooms | {""}


def test_what_is_added_trains_and_is_attacked(project):
    run(project, "experiment.data", "mine", "--data-dir", "data", "--npz", "mine.npz")
    run(project, "training.run", "mine.yaml", "mine/it/seed0")
    folder = project / "results" / "mine" / "mine" / "it" / "seed0"
    trained = json.loads((folder / "train.json").read_text())
    assert trained["status"] == "ok"
    assert trained["cost"]["passes"] == pytest.approx(2 + 3)  # 1 step and the update, then 2 steps and the update
    assert trained["spec"]["network"] == {"name": "flat_cnn", "activation": "relu", "width": 4}
    accuracy = {}
    for label in ("clean", "noise", "once", "far"):
        run(project, "evaluation.run", "mine.yaml", "mine/it/seed0", label)
        accuracy[label] = json.loads((folder / "evaluate" / f"{label}.json").read_text())["accuracy"]
    assert accuracy["clean"] >= accuracy["once"] >= accuracy["noise"] >= accuracy["far"]


def test_a_wrong_value_is_refused_in_a_sentence_that_says_what_would_be_right(project):
    text = FILES["mine.yaml"]
    for old, new, says in [
        ("width: 4", "width: 0", "network.width is 0; it must be at least 1"),
        ("second: 2", "second: -1", "variant it: steps.second is -1; it must be at least 0"),
        ("draws: 1", "draws: many", "attack noise: draws is 'many'; it must be a whole number"),
        ("name: nesterov", "name: nesterov, momentum: 1", "training.optimizer.momentum is 1; it must be below 1"),
    ]:
        (project / "wrong.yaml").write_text(text.replace(old, new))
        code = "from experiment.suite import Suite; Suite.load('wrong.yaml')"
        done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
        assert says in done.stderr
