"""The project is run from its checkout, and says so to whoever would build a package of it."""

import shutil
import subprocess
import sys

import pytest
from test_workflow import ROOT


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
