"""The project is run from its checkout, and says so to whoever would build a package of it."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from test_workflow import ROOT

from experiment import plugins


@pytest.mark.fault("place")
@pytest.mark.parametrize("built", ["wheel", "sdist"])
def test_nothing_that_lacks_half_of_the_project_can_be_built_of_it(built, tmp_path):
    pytest.importorskip("setuptools")  # pip brings its own where there is none
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, tmp_path / name)
    build = f"from setuptools import build_meta; build_meta.build_{built}('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the suite is run from its checkout and is no package: there, `make env` sets it up"
    ]
    assert not list(tmp_path.glob("dist/*"))


def test_what_is_said_of_contributing_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", text) if not (ROOT / link).exists()]
    rooms = [re.fullmatch(r"`(.+)/<\w+>(?:\.py|/)`.*", row.split(" | ")[1]) for row in text.splitlines() if "<" in row]
    found = {room[1].replace("/", ".") for room in rooms if room}
    assert found == {"methods", "experiment.datasets", *(kind.package for kind in plugins.KINDS.values())}


def test_ci_runs_every_test_once():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert sorted(jobs["test"]["strategy"]["matrix"]["tests"]) == ["fast", "slow", "workflow"]
    assert "pytest -m 'fast or slow or workflow'" in (ROOT / "Makefile").read_text()
