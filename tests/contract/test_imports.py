"""Imports between the rooms point one way, so that an evaluation cannot depend on how something was trained."""

import ast

import pytest

from experiment.suite import ROOT

MAY_IMPORT = {
    "experiment": {"experiment"},
    "steps": {"experiment", "steps"},
    "methods": {"experiment", "steps", "methods"},
    "training": {"experiment", "steps", "methods", "training"},
    "evaluation": {"experiment", "evaluation"},
    "analysis": {"experiment", "analysis"},
    "reporting": {"experiment", "evaluation", "analysis", "reporting"},
}


def rooms_imported_by(source):
    """The rooms that a module's source imports, at any depth of it; `from . import x` is the module's own room."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [ast.unparse(node.args[0]).lstrip("f").strip("'\"")]
        yield from (name.partition(".")[0] for name in names if name.partition(".")[0] in MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_before_it(room):
    modules = sorted((ROOT / room).rglob("*.py"))
    assert modules
    for module in modules:
        forbidden = set(rooms_imported_by(module.read_text())) - MAY_IMPORT[room]
        assert not forbidden, f"{module.relative_to(ROOT)} imports {', '.join(sorted(forbidden))}"


@pytest.mark.parametrize(
    "source",
    [
        "import training",
        "import json, training.learner as s",
        "from training import learner",
        "from training.learner import Learner",
        "def f():\n    from training import learner",
        "importlib.import_module('training.learner')",
        "import_module(f'training.{name}')",
    ],
)
def test_every_way_to_import_is_seen(source):
    assert list(rooms_imported_by(source)) == ["training"]
