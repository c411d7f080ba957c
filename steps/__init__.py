"""Steps rules: how many adversarial iterations each epoch uses, and how long they are. Each is a file here.

A file's name is the rule's, with _ for -; it defines one StepsRule (steps/rule.py). Pure Python, no tensors.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from experiment import plugins
from steps.rule import Statistics, StepsRule

__all__ = ["RULES", "Statistics", "StepsRule", "build"]

RULES: dict[str, type[StepsRule]] = {name: plugins.load("steps", name) for name in plugins.names("steps")}


def build(steps: Mapping[str, Any], *, eps: float, epochs: int) -> StepsRule:
    """The rule that a resolved variant's `steps` describes. eps in pixel units; epochs of the whole run."""
    cls = RULES[steps["rule"]]
    known = {**steps, "eps": eps, "epochs": epochs}
    return cls(**{field.name: known[field.name] for field in fields(cls) if field.name in known})
