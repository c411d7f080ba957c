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


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/extending.md"])
def test_what_contributors_read_names_files_that_are_there(name):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text())
    assert links
    assert not [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]


def test_each_kind_of_plug_in_has_its_line_for_contributors():
    rows = [row.split(" | ") for row in (ROOT / "docs" / "extending.md").read_text().splitlines() if "/<name>" in row]
    rooms = {re.match(r"`(.+)/<name>", row[1])[1].replace("/", ".") for row in rows}
    assert rooms == {"methods", "experiment.datasets", *(kind.package for kind in plugins.KINDS.values())}


def test_ci_runs_every_test_once():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert sorted(jobs["test"]["strategy"]["matrix"]["tests"]) == ["fast", "slow", "workflow"]
    assert "pytest -n 2 -m 'fast or slow or workflow'" in (ROOT / "Makefile").read_text()
