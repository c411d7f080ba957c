"""Methods: how one minibatch becomes weight updates. Each is a folder here; nothing is registered."""

from experiment import plugins
from experiment.effort import Effort
from methods.batch import Batch, Position, Split
from methods.learner import Learner
from methods.method import Method

__all__ = ["Batch", "Effort", "Learner", "Method", "Position", "Split", "load", "names"]


def names() -> list[str]:
    """The methods there are: the folders of this one that hold a method.py."""
    return plugins.names("method")


def load(name: str) -> type[Method]:
    """The Method subclass that methods/<name>/method.py defines. Raises UserError unless it is exactly one."""
    return plugins.load("method", name)
