"""What a suite needs to know of a method, without importing it: its defaults.yaml and the facts of its class."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from experiment import plugins, strict_yaml
from experiment.errors import UserError, shown
from experiment.facts import of_base, of_class
from experiment.fields import Keys, place, sentence
from experiment.quantity import as_quantity

ROOT = plugins.ROOT  # of the project whose methods/ is meant
Value = bool | int | float | str


def _option(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("it must be text, a number, or true or false")
    return value


class Defaults(Keys):
    """A method's defaults.yaml."""

    steps: Annotated[
        dict[str, dict[str, Any]] | None, Field(description="By steps rule, its parameters for this method.")
    ] = None
    options: Annotated[
        dict[str, Annotated[Any, BeforeValidator(_option)]] | None,
        Field(description="The method's own options, attributes of it; the range of each is in its method.py."),
    ] = None


@dataclass(frozen=True)
class Facts:
    """steps: parameters by steps rule; options: their defaults; the others are the class's (methods/method.py)."""

    method: str
    steps: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Value]
    ranges: Mapping[str, tuple[float, float]]
    choices: Mapping[str, tuple[str, ...]]
    norms: tuple[str, ...]
    least_steps: int
    most_steps: int | None
    only_rules: tuple[str, ...] | None
    published_batch_norm: str
    reuses_crafting_graph: bool
    smooths_labels: bool
    perturbs_weights: bool
    needs_teacher: bool
    averages_weights: bool

    @property
    def rules(self) -> tuple[str, ...]:
        """The steps rules that mean something for it."""
        return tuple(plugins.names("steps")) if self.only_rules is None else self.only_rules

    def checked(self, options: Mapping[str, Any]) -> dict[str, Value]:
        """The method's options with those of a variant. Raises ValueError, with what follows the variant's name."""
        for key in options:
            if key not in self.options:
                known = ", ".join(sorted(self.options)) or "none"
                raise ValueError(f": method {self.method} has no option {shown(key)}; its options are: {known}")
        return {key: self._checked(key, options.get(key, default)) for key, default in self.options.items()}

    def _checked(self, key: str, value: Any) -> Value:
        default = self.options[key]
        try:
            if isinstance(default, float) and not isinstance(value, bool):
                value = as_quantity(value)
            elif type(value) is not type(default):
                raise ValueError(f"it must be of the kind of {default!r}")
            if isinstance(value, str) and value not in self.choices.get(key, ()):
                raise ValueError(f"it must be one of {', '.join(self.choices.get(key, ())) or 'no words'}")
            if isinstance(value, int | float) and not isinstance(value, bool):
                if key not in self.ranges:
                    raise ValueError(f"it is a number, and methods/{self.method}/method.py has no range for it")
                least, most = self.ranges[key]
                if not least <= value <= most:
                    raise ValueError(f"it must lie between {least} and {most}")
        except ValueError as error:
            raise ValueError(f": options.{key} is {shown(value)}; {error}") from None
        return value


def names(root: Path | None = None) -> list[str]:
    """The methods there are: the folders of methods/ that hold a method.py."""
    return sorted(path.parent.name for path in ((root or ROOT) / "methods").glob("*/method.py"))


def of(method: str) -> Facts:
    """The facts of methods/<method>. Raises UserError where there is none, or its files cannot be used."""
    root = ROOT
    if method not in names(root):
        near = difflib.get_close_matches(method, names(root), cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? All are" if near else "all are"
        raise UserError(f"method {shown(method)} is not known; {meant} in docs/methods.md")
    folder = root / "methods" / method
    stamps = tuple(_stamp(folder / name) for name in ("method.py", "defaults.yaml"))
    return _read(root, method, stamps)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@cache
def _usual() -> dict[str, Any]:
    """What a method is that says nothing else of itself."""
    return of_base(plugins.ROOT / "methods" / "method.py", "Method")


@lru_cache(maxsize=200)
def _read(root: Path, method: str, stamps: tuple[tuple[int, int] | None, ...]) -> Facts:
    path = root / "methods" / method / "defaults.yaml"
    where = path.relative_to(root).as_posix()
    content = strict_yaml.read(path)
    try:
        strict_yaml.check_plain(content, "")
        defaults = Defaults.model_validate({} if content is None else content)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except ValidationError as error:
        raise UserError(f"{where}: {sentence(error, lambda loc: place(loc) or 'the file')}") from None
    for rule in defaults.steps or {}:
        if rule not in plugins.names("steps"):
            known = ", ".join(plugins.names("steps"))
            raise UserError(f"{where}: steps has the rule {shown(rule)}, which is not known; there are {known}")
    attributes = _usual() | of_class(root, path.with_name("method.py"), "Method").attributes
    return Facts(
        method,
        defaults.steps or {},
        defaults.options or {},
        attributes["ranges"],
        attributes["choices"],
        attributes["norms"],
        attributes["least_steps"],
        attributes["most_steps"],
        attributes["rules"],
        attributes["published_batch_norm"],
        attributes["reuses_crafting_graph"],
        attributes["smooths_labels"],
        attributes["perturbs_weights"],
        attributes["needs_teacher"],
        attributes["averages_weights"],
    )
