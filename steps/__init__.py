"""Steps rules: how many adversarial iterations each epoch uses, and how long they are. Each is a file here.

A file's name is the rule's, with - for _; it defines one StepsRule (steps/rule.py). Pure Python, no tensors.
"""

import importlib
from dataclasses import fields
from pathlib import Path

from steps.rule import Statistics, StepsRule

__all__ = ["RULES", "Statistics", "StepsRule", "build"]

NO_RULES = ("__init__", "replay", "rule")


def _rules() -> dict[str, type[StepsRule]]:
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in NO_RULES:
            module = importlib.import_module(f"steps.{path.stem}")
            own = [
                member
                for member in vars(module).values()
                if isinstance(member, type) and member.__module__ == module.__name__
            ]
            found[path.stem.replace("_", "-")] = own[-1]
    return found


RULES = _rules()


def build(steps: dict, *, eps: float, epochs: int) -> StepsRule:
    """The rule that a resolved variant's `steps` describes. eps in pixel units; epochs of the whole run."""
    cls = RULES[steps["rule"]]
    wanted = {parameter.name for parameter in fields(cls)}
    known = {**steps, "eps": eps, "epochs": epochs}
    return cls(**{key: value for key, value in known.items() if key in wanted})
