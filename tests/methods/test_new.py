"""Methods that a user adds: as `make method` writes them, and as README.md says, in copies of the project."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest
import yaml

from experiment.provenance import ROOMS
from experiment.suite import ROOT
from methods import new

PARTS = (
    *("Snakefile", "Makefile", "README.md", "pyproject.toml", "configs", "profiles", "rules"),
    *ROOMS,
    "tests",
)


class Project:
    """A copy of the project in which commands run as in the project itself."""

    def __init__(self, folder: Path):
        self.folder = folder
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / part, folder / part)

    def run(self, command: str) -> str:
        """What the command prints; it must succeed. `make` finds an environment set up and leaves it alone."""
        tools = Path(sys.executable).parent
        words = shlex.split(command)
        if words[0] == "make":
            words = ["make", "-o", "env", f"BIN={tools}", *words[1:]]
        environment = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        captured = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(words, cwd=self.folder, env=environment, timeout=200, check=False, **captured)
        assert done.returncode == 0, done.stdout
        return done.stdout


def record(results: Path) -> dict:
    return json.loads((results / "train.json").read_text())


# -- as it is written -------------------------------------------------------------------------------------------------


@pytest.mark.workflow
def test_a_new_method_passes_the_checks_and_trains(tmp_path):
    project = Project(tmp_path)
    project.run("make method NAME=my_2nd_idea")
    project.run("ruff check --no-cache methods/my_2nd_idea")
    project.run("ruff format --no-cache --check methods/my_2nd_idea")
    project.run("pytest -p no:cacheprovider tests/contract -k my_2nd_idea")
    suite = yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text())
    suite["training"]["epochs"] = 2
    suite["variants"] = [{"label": "it", "method": "my_2nd_idea"}]
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    project.run("python -m experiment.data digits --data-dir data")
    project.run("python -m training.run suite.yaml digits/it/seed0")
    trained = record(tmp_path / "results" / "quick" / "digits" / "it" / "seed0")
    assert trained["status"] == "ok"
    assert trained["cost"]["passes"] == 2 * 2  # epochs x (a step and an update)
    assert trained["validation"]["clean_accuracy"] > 0.5


@pytest.mark.parametrize(
    "name", ["", "Mine", "my-idea", "my.idea", "../up", "mine/", "2fast", "_mine", "ünlü", "mine\n"]
)
def test_a_name_that_is_no_name_is_refused(name, capsys):
    assert "it must be a letter and then a-z, 0-9 and _ only" in refusal(name)


@pytest.mark.parametrize("name", ["pgd", "n_fgsm", "method", "new"])
def test_a_name_that_is_taken_is_refused(name):
    assert f"methods/{name} is there already" in refusal(name)


def refusal(name: str) -> str:
    """The sentence with which `python -m methods.new` ends, having written nothing."""
    before = sorted((ROOT / "methods").rglob("*.*"))
    with pytest.raises(SystemExit) as stopped:
        new.main([name])
    assert sorted((ROOT / "methods").rglob("*.*")) == before
    assert stopped.value.code.startswith("error: ")
    assert "\n" not in stopped.value.code
    return stopped.value.code


# -- as README.md says ------------------------------------------------------------------------------------------------

SECTION = (ROOT / "README.md").read_text().partition("\n## Adding a method\n")[2].partition("\n## ")[0]
BLOCKS = [dedent(block) for block in re.findall(r"(?:^ {4}.*\n(?:\n(?= {4}))?)+", SECTION, re.MULTILINE)]
CLASS = "".join(block for block in BLOCKS if block.startswith("class "))
COMMANDS = [line for block in BLOCKS if block != CLASS for line in block.splitlines()]
CLASS_FILE = re.search(r"takes the place of the class in `(.+?)`", SECTION)[1]
ADDITIONS = re.findall(r"^- `([^`]+)`,.* at the end.*?: (?:``(.+?)``|`(.+?)`)", SECTION, re.MULTILINE)


def class_of(source: str) -> str:
    return source[source.index("\nclass ") + 1 :]


def test_the_class_that_readme_shows_is_the_one_of_the_project():
    assert class_of((ROOT / "methods" / "n_fgsm" / "method.py").read_text()) == CLASS


@pytest.mark.workflow
@pytest.mark.fault("place")
def test_a_method_added_as_readme_says_trains_as_the_project_s_does(tmp_path):
    project = Project(tmp_path)
    write, *check_and_run = COMMANDS
    project.run(write)
    source = (tmp_path / CLASS_FILE).read_text()
    (tmp_path / CLASS_FILE).write_text(source.replace(class_of(source), CLASS))
    own = ("configs/quick.yaml", "- {label: n-fgsm, method: n_fgsm}", "")
    for file, one, other in [*ADDITIONS, own]:
        indent = "  " if file.startswith("configs") else ""  # a suite's variants, its last key, are indented
        with open(tmp_path / file, "a") as added_to:
            added_to.write(f"{indent}{one or other}\n")
    for command in check_and_run:
        project.run(command)
    run = tmp_path / "results" / "quick" / "digits" / "my-fgsm" / "seed0"
    attacked = json.loads((run / "evaluate" / "pgd-20.json").read_text())
    assert attacked["images"] == 360

    added, original = (tmp_path / "methods" / name / "defaults.yaml" for name in ("my_fgsm", "n_fgsm"))
    assert yaml.safe_load(added.read_text()) == yaml.safe_load(original.read_text())
    project.run("python -m training.run configs/quick.yaml digits/n-fgsm/seed0 --threads 1")
    own_run = run.parent.parent / "n-fgsm" / "seed0"
    followed, kept = record(run), record(own_run)
    for key in ("status", "epochs", "validation", "weights_sha256"):
        assert followed[key] == kept[key], key
    assert (followed["spec"]["method"], kept["spec"]["method"]) == ("my_fgsm", "n_fgsm")
    assert followed["spec"]["options"] == {"noise": 2.0}
    rows = [pd.read_csv(folder / "epochs.csv").drop(columns=["seconds", "cpu_seconds"]) for folder in (run, own_run)]
    pd.testing.assert_frame_equal(*rows)
