"""What every steps rule must do; its author writes none of it. The rules are those that `steps` names."""

import ast
import inspect
import json
import math
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from functools import cache

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from session import variants_of

import methods
import steps
from experiment import method_facts, plugins
from experiment.errors import UserError
from experiment.suite import ROOT, Suite
from steps import Statistics, StepsRule

EPS, EPOCHS = 0.1, 12
every_rule = pytest.mark.parametrize("name", plugins.names("steps"))
each_epoch = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1)), min_size=EPOCHS, max_size=EPOCHS)


def described(name):
    """The schema of the rule's keys in a suite."""
    return plugins.parameters("steps", name).model_json_schema()


def parameters(name):
    """The rule's parameters in a suite; eps and the number of epochs come from elsewhere in it."""
    return {field.name: field for field in fields(plugins.load("steps", name)) if field.name not in ("eps", "epochs")}


@cache
def resolved(name, method):
    suite = Suite.from_mapping(
        {
            "suite": "contract",
            "datasets": ["digits"],
            "network": {"name": "small_cnn"},
            "threat": {"eps": EPS},
            "training": {"epochs": EPOCHS, "batch_size": 64, "lr": 0.01},
            "evaluation": {"attacks": ["clean"]},
            "seeds": [0],
            "variants": variants_of({"label": "it", "method": method, "steps": {"rule": name}}),
        }
    )
    return suite.resolved["variants"][0]["steps"]


def rules(name):
    """The rule as each method has it, and with each of its switches turned over."""
    switches = [
        key
        for key, field in parameters(name).items()
        if plugins.parameters("steps", name).model_fields[key].annotation is bool
    ]
    for method in methods.names():
        if name not in method_facts.of(method).rules:
            continue
        given_ = resolved(name, method)
        for changed in [{}, *({key: not given_[key]} for key in switches)]:
            yield plugins.of_spec("steps", {**given_, **changed}, eps=EPS, epochs=EPOCHS)


def efforts(rule, history, start=0):
    for epoch, (magnitude, accuracy) in enumerate(history[start:], start):
        yield rule.effort_for(epoch)
        rule.end_epoch(epoch, Statistics(magnitude, accuracy))


@every_rule
def test_a_suite_may_say_its_parameters_and_nothing_else(name):
    assert set(described(name)["properties"]) == {"rule", *parameters(name)}
    assert described(name)["properties"]["rule"]["const"] == name
    assert not described(name)["additionalProperties"]


@every_rule
def test_a_suite_must_say_or_a_method_s_defaults_must_what_has_no_default(name):
    required = {key for key, field in parameters(name).items() if field.default is MISSING}
    optional = {key: field.default for key, field in parameters(name).items() if field.default is not MISSING}
    properties = described(name)["properties"]
    assert required <= set(described(name)["required"])
    for key, default in optional.items():
        assert key in described(name)["required"] or properties[key]["default"] == default


@pytest.mark.fault("input")
@every_rule
def test_its_steps_in_epoch_0_are_the_parameter_that_is_held_against_what_a_method_needs(name):
    (first,) = {"first", "steps"} & set(parameters(name))
    assert first in described(name)["required"]
    for rule in rules(name):
        assert rule.effort_for(0).steps == getattr(rule, first)


@every_rule
def test_it_names_no_attribute_that_it_does_not_declare(name):
    """Nor do the classes that it shares its code with; what one of them sets on itself the next may use."""
    declared = set()
    for cls in reversed(plugins.load("steps", name).__mro__[:-2]):  # without ABC and object
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        of_self = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        ]
        declared |= {node.attr for node in of_self if isinstance(node.ctx, ast.Store)} | set(dir(cls))
        declared |= {field.name for field in fields(cls)} if is_dataclass(cls) else set()
        assert {node.attr for node in of_self} <= declared, cls


RULE = """
from dataclasses import dataclass
from experiment.effort import Effort
from steps.rule import StepsRule

@dataclass
class Mine(StepsRule):
    start: int

    def effort_for(self, epoch):
        return Effort(self.start + epoch, 0.1)
"""


def test_a_rule_that_has_no_first_steps_is_refused_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(RULE)
    monkeypatch.setattr(steps, "__path__", [*steps.__path__, str(tmp_path)])
    suite = yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text())
    suite["variants"] = [{"label": "it", "method": "free", "steps": {"rule": "mine", "start": 3}}]
    with pytest.raises(UserError, match="variant it has the rule mine, which says no `first` or `steps`"):
        Suite.from_mapping(suite)


def test_a_rule_must_say_its_effort():
    with pytest.raises(TypeError, match="effort_for"):
        type("Mine", (StepsRule,), {})()


@every_rule
@given(history=each_epoch)
def test_its_efforts_are_whole_steps_of_positive_length_and_the_same_each_time(name, history):
    for one, other in zip(rules(name), rules(name), strict=True):
        taken = list(efforts(one, history))
        assert taken == list(efforts(other, history))
        for effort in taken:
            assert type(effort.steps) is int
            assert effort.steps >= 0
            assert math.isfinite(effort.step_size)
            assert effort.step_size > 0


@every_rule
@given(history=each_epoch, stopped_at=st.integers(0, EPOCHS))
def test_resumed_at_any_epoch_from_its_state_it_goes_on_as_if_never_interrupted(name, history, stopped_at):
    for whole, first, second in zip(rules(name), rules(name), rules(name), strict=True):
        expected = list(efforts(whole, history))
        taken = list(efforts(first, history[:stopped_at]))
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert taken + list(efforts(second, history, stopped_at)) == expected
        assert second.state_dict() == whole.state_dict()


def test_rules_are_pure_python():
    trees = [ast.parse(path.read_text()) for path in (ROOT / "steps").glob("*.py")]
    imported = {
        alias.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.partition(".")[0] in ("torch", "numpy")}
