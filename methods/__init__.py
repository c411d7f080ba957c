"""Methods: how one minibatch becomes weight updates. Each is a folder here; nothing is registered."""

import importlib
import inspect
from pathlib import Path

from experiment.effort import Effort
from experiment.errors import UserError
from methods.batch import Batch, Position, Split
from methods.learner import Learner
from methods.method import Method

__all__ = ["Batch", "Effort", "Learner", "Method", "Position", "Split", "load", "names"]


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
