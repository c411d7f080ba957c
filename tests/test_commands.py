"""Every command of the project says how it is used, and does nothing else when asked."""

import ast
import importlib

import pytest

from experiment.provenance import ROOMS
from experiment.suite import ROOT


def has_main(path) -> bool:
    return any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in ast.parse(path.read_text()).body)


COMMANDS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    if has_main(path)
]


def test_the_commands_are_those_that_readme_tells_of_and_more():
    assert {"training.run", "evaluation.run", "reporting.readme", "steps.replay", "experiment.data"} <= set(COMMANDS)


@pytest.mark.fault("input")
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_given_and_nothing_is_done(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m {name}")
    assert not list(tmp_path.iterdir())


@pytest.mark.fault("input")
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "experiment.configfile"])
def test_an_option_that_it_does_not_have_is_refused(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--no-such-option"])
    assert ended.value.code == 2
    assert f"python -m {name}: error: " in capsys.readouterr().err.replace(" mplus", "")
    assert not list(tmp_path.iterdir())
