"""What a method is made of: whatever file could change what it trains."""

import pytest

from experiment import provenance, sources, suite

PROJECT = {
    "experiment/threats/__init__.py": "",
    "training/learner.py": "",
    "tricks.py": "",
    "unused.py": "",
    "methods/__init__.py": "from methods.method import Method",
    "methods/method.py": "class Method: pass",
    "methods/new.py": "",
    "methods/noise.py": "",
    "methods/mine/README.md": "",
    "methods/mine/defaults.yaml": "",
    "methods/mine/method.py": "from methods import Method\nfrom experiment import threat\nfrom .nets import tweak\n",
    "methods/mine/nets/tweak.py": "",
    "methods/mine/nets/deep/er.py": "",
    "methods/mine/nets/README.md": "a table that it reads",
    "methods/mine/table.json": "{}",
    "methods/mine/start.pt": "\0",
    "methods/mine/settings.yaml": "{}",
    "methods/mine/__pycache__/method.pyc": "",
    "methods/mine/nets/__pycache__/tweak.py": "",
    "methods/mine/.method.py.swp": "",
    "methods/mine/.cache/x.py": "",
    "methods/theirs/method.py": "import methods.base.method\n",
    "methods/theirs/README.md": "",
    "methods/base/method.py": "",
    "methods/base/nets/deep.py": "",
    "methods/other/method.py": "",
}
OWN = [
    *("defaults.yaml", "method.py", "nets/README.md", "nets/deep/er.py", "nets/tweak.py"),
    *("settings.yaml", "start.pt", "table.json"),
]
IMPORTS = {
    "import methods.theirs.method": ["methods/theirs/method.py", "methods/base/method.py", "methods/base/nets/deep.py"],
    "from methods.theirs.method import X": ["methods/theirs/method.py", "methods/base/method.py"],
    "from methods.theirs import method": ["methods/theirs/method.py"],
    "from methods import base": ["methods/base/method.py", "methods/base/nets/deep.py"],
    "from ..base.method import X": ["methods/base/method.py", "methods/base/nets/deep.py"],
    "from .. import base": ["methods/base/method.py"],
    "from ..base import *": ["methods/base/method.py"],
    "def f():\n    from methods.base.nets import deep": ["methods/base/method.py", "methods/base/nets/deep.py"],
    "importlib.import_module('methods.base.method')": ["methods/base/nets/deep.py"],
    "importlib.import_module('..base.method', __package__)": ["methods/base/nets/deep.py"],
    "from methods import noise": ["methods/noise.py"],
    "from ..noise import more": ["methods/noise.py"],
    "import tricks": ["tricks.py"],
}
pytestmark = pytest.mark.fault("stale")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    yield tmp_path
    provenance.sha256_of.cache_clear()


def files(project, method="mine"):
    return [str(path.relative_to(project)) for path in sources.of_method(project, method)]


def sha256(method):
    provenance.sha256_of.cache_clear()
    return provenance.sha256_of("method", method)


def test_a_method_is_made_of_every_file_of_its_folder_and_of_what_it_imports_of_its_room(project):
    shared = ["methods/__init__.py", "methods/method.py"]
    assert files(project) == shared + [f"methods/mine/{name}" for name in OWN]


@pytest.mark.parametrize("importing", ["method.py", "nets/tweak.py", "nets/deep/er.py"])
@pytest.mark.parametrize("statement", IMPORTS)
def test_what_it_imports_belongs_to_it_from_whatever_file_and_in_whatever_words(project, statement, importing):
    before, depth = files(project), importing.count("/")
    with open(project / "methods/mine" / importing, "a") as file:
        file.write(statement.replace("..", ".." + "." * depth, 1))
    found = set(files(project)) - set(before)
    assert found >= set(IMPORTS[statement])
    assert not any("README" in name or name.startswith(("methods/other", "methods/new", "unused")) for name in found)


def test_methods_that_import_each_other_and_a_file_that_is_no_python_are_read_to_the_end(project):
    (project / "methods/base/method.py").write_text("from methods.mine import method")
    (project / "methods/mine/nets/tweak.py").write_text("from methods.base import method\n")
    (project / "methods/mine/broken.py").write_bytes(b"def \0\xff(")
    assert {"methods/mine/broken.py", "methods/base/method.py"} <= set(files(project))


@pytest.mark.parametrize("name", [*(f"methods/mine/{name}" for name in OWN), "methods/base/nets/deep.py"])
def test_editing_any_of_it_changes_the_hash_by_which_its_runs_are_stale(project, name):
    (project / "methods/mine/method.py").write_text("from methods.base.method import Base")
    before = sha256("mine"), sha256("other")
    (project / name).write_text("# edited")
    assert sha256("mine") != before[0]
    assert sha256("other") == before[1]


@pytest.mark.parametrize("name", ["README.md", ".method.py.swp", ".cache/x.py", "nets/__pycache__/tweak.py"])
def test_editing_what_trains_nothing_changes_nothing(project, name):
    before = sha256("mine")
    (project / "methods/mine" / name).write_text("edited")
    assert sha256("mine") == before
