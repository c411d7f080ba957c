"""Whatever a method loads is known to be part of it, so that editing it makes the method's runs stale."""

import json
import subprocess
import sys

import pytest
from session import every_method

import methods
from experiment import sources
from experiment.suite import ROOT

LOADED = """
import importlib, json, sys
loaded = {}
for method in sys.argv[1:]:
    before = {name for name in sys.modules if name.partition(".")[0] != "methods"}
    for name in sys.modules.keys() - before:
        del sys.modules[name]
    importlib.import_module(f"methods.{method}.method")
    files = [getattr(sys.modules[name], "__file__", None) for name in sys.modules.keys() - before]
    loaded[method] = [file for file in files if file]
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded():
    """By method, the files of the modules that its import loads beside those that were there."""
    command = [sys.executable, "-c", "import torch, experiment.threats, experiment.effort\n" + LOADED, *methods.names()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


@pytest.mark.fault("stale")
@every_method
def test_every_module_that_it_loads_is_part_of_it_unless_all_methods_share_it(method, loaded):
    own = set(map(str, sources.of_method(ROOT, method)))
    assert str(ROOT / "methods" / method / "method.py") in own
    shared = tuple(f"{ROOT / room}/" for room in sources.SHARED)
    here = [file for file in loaded[method] if file.startswith(f"{ROOT}/") and not file.startswith(shared)]
    missed = [file for file in here if file not in own and "site-packages" not in file]
    assert not missed, (
        f"{method} loads {', '.join(missed)}, which its hash and Snakemake do not know of; import it by an import "
        "statement, or by import_module of a name that is written out"
    )
