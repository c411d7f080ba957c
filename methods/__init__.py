"""Methods: how one minibatch becomes weight updates. Each is a folder here; nothing is registered."""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiment.effort import Effort
from experiment.errors import UserError, shown
from methods.learner import Learner
from methods.method import Method

__all__ = ["Effort", "Learner", "Method", "check", "load", "names"]


def names() -> list[str]:
    """The methods there are: the folders of this one that hold a method.py."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/method.py"))


def load(name: str) -> type[Method]:
    """The Method subclass that methods/<name>/method.py defines. Raises UserError unless it is exactly one."""
    if name not in names():
        raise UserError(f"method {name!r} is not known; the methods are {', '.join(names())}")
    where = f"methods/{name}/method.py"
    try:
        module = importlib.import_module(f"methods.{name}.method")
    except (Exception, SystemExit) as error:  # whatever a method's file raises is the user's to read in one line
        raise UserError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    found = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Method) and member.__module__ == module.__name__
    ]
    if len(found) != 1:
        listed = f" ({', '.join(cls.__name__ for cls in found)})" if found else ""
        raise UserError(f"{where} defines {len(found)} subclasses of Method{listed}; it must define exactly one")
    return found[0]


def check(variants: Iterable[Mapping[str, Any]], norm: str = "linf") -> None:
    """Raise UserError unless every variant's method can be loaded and makes sense with its steps and options.

    norm: of the threat model.
    """
    for variant in variants:
        method, label = load(variant["method"]), variant["label"]
        if norm not in method.norms:
            known = " and ".join(method.norms)
            raise UserError(f"variant {label}: {variant['method']} cannot train for the norm {norm}, only for {known}")
        for option, value in variant["options"].items():
            _check_option(method, option, value, f"variant {label}: options.{option}")
        least, steps = method.least_steps, variant["steps"]
        first = steps.get("first", steps.get("steps"))
        if first is None:
            raise UserError(f"variant {label}: the rule {steps['rule']} says no `first` or `steps`, for epoch 0")
        if first < least:
            raise UserError(f"variant {label}: {first} steps in epoch 0, but {variant['method']} needs {least}")


def _check_option(method: type[Method], option: str, value: bool | float | str, where: str) -> None:
    if isinstance(value, str):
        known = method.choices.get(option, ())
        if value not in known:
            raise UserError(f"{where} is {shown(value)}; it must be one of {', '.join(known) or 'no words'}")
    elif not isinstance(value, bool):
        if option not in method.ranges:
            raise UserError(f"{where} is a number, and {method.__name__}.ranges has no range for it")
        least, most = method.ranges[option]
        if not least <= value <= most:
            raise UserError(f"{where} is {value}; it must lie between {least} and {most}")
