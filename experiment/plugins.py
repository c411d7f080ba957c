"""Plug-ins: what a suite names is a file (a method: a folder) of its kind's room, found by name; nothing is registered.

A file defines one subclass of its kind's base. It is a dataclass whose fields are the parameters that a suite may set,
typed as in `experiment.fields`, and does not import torch before it computes, for the Snakefile reads it at every
start. Networks and methods are torch from top to bottom: theirs are read (`experiment.facts`) and not imported.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo, create_model, model_validator
from pydantic_core import CoreSchema, core_schema

from experiment.errors import UserError, shown
from experiment.facts import Facts, of_class
from experiment.fields import Keys

ACTIVATIONS = ("relu", "silu", "gelu", "elu", "softplus", "mish", "smoothrelu")  # experiment/models/activations.py
ROOT = Path(__file__).resolve().parent.parent


class Plugin:
    """What every plug-in's class says of itself.

    given: its fields that come from elsewhere in the suite, and that a suite may not set.
    """

    given: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def check(cls, parameters: Any) -> None:
        """Raise ValueError, with what follows the parameters' key, where they do not make sense together."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of plug-in.

    package: where its files are; base: module and class that they subclass; key: of a suite, under which one is named;
    what: it is called in messages; no_plugins: further files of the folder.
    """

    package: str
    base: tuple[str, str]
    key: str
    what: str
    no_plugins: frozenset[str] = frozenset()
    hyphens: bool = False  # in names, where files have underscores
    folders: bool = False  # <name>/<what>.py, and not <name>.py

    def stem(self, name: str) -> str:
        return name.replace("-", "_") if self.hyphens else name

    def name(self, stem: str) -> str:
        return stem.replace("_", "-") if self.hyphens else stem


KINDS = {
    "method": Kind("methods", ("methods.method", "Method"), "method", "method", folders=True),
    "steps": Kind("steps", ("steps.rule", "StepsRule"), "rule", "steps rule", frozenset({"replay"}), hyphens=True),
    "schedule": Kind("training.schedules", ("training.schedules.schedule", "Schedule"), "name", "schedule"),
    "optimizer": Kind("training.optimizers", ("training.optimizers.optimizer", "Optimizer"), "name", "optimizer"),
    "network": Kind(
        "experiment.models",
        ("experiment.models.network", "Network"),
        "name",
        "network",
        frozenset({"activations"}),
    ),
    "threat": Kind("experiment.threats", ("experiment.threats.threat", "Threat"), "norm", "norm"),
    "attack": Kind("evaluation.attacks", ("evaluation.attacks.attack", "Attack"), "name", "attack"),
}


def names(kind: str) -> list[str]:
    """The plug-ins of a kind, as a suite names them."""
    return sorted(_files(kind))


@cache
def load(kind: str, name: object) -> type[Any]:
    """The class of a plug-in.

    Raises UserError where there is none of that name, its file cannot be imported, or it defines none or several.
    """
    of = KINDS[kind]
    if not isinstance(name, str) or name not in names(kind):
        raise UserError(f"{of.what} {shown(name)} is not known; there are {', '.join(names(kind))}")
    where = f"{of.package}.{of.stem(name)}" + (f".{of.what}" if of.folders else "")
    file = f"{where.replace('.', '/')}.py"
    base = getattr(importlib.import_module(of.base[0]), of.base[1])
    try:
        module = importlib.import_module(where)
    except (Exception, SystemExit) as error:  # whatever a plug-in's file raises is the user's to read in one line
        raise UserError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    found = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, base) and member.__module__ == where
    ]
    found = [cls for cls in found if not inspect.isabstract(cls)]
    if len(found) != 1:
        listed = f" ({', '.join(cls.__name__ for cls in found)})" if found else ""
        raise UserError(f"{file} defines {len(found)} subclasses of {of.base[1]}{listed}; it must define exactly one")
    return found[0]


@cache
def parameters(kind: str, name: str) -> type[Keys]:
    """What a suite may say of a plug-in, as a pydantic model; the plug-in's name is its first key."""
    if kind == "network":
        return _of_network(name)
    cls, key = load(kind, name), KINDS[kind].key
    hints = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {key: (Literal[name], Field(description=_first_sentence(cls)))}
    for field in dataclasses.fields(cls):
        if field.name not in cls.given and field.name != key:
            default: Any = ... if field.default is dataclasses.MISSING else field.default
            if field.default_factory is not dataclasses.MISSING:
                default = Field(default_factory=field.default_factory)
            fields[field.name] = (hints[field.name], default)

    def sensible(self: Keys) -> Keys:
        cls.check(self)
        return self

    validators: dict[str, Any] = {"sensible": model_validator(mode="after")(sensible)}
    return create_model(
        f"{kind}:{name}", __base__=Keys, __doc__=_first_sentence(cls), __validators__=validators, **fields
    )


@cache
def facts_of(kind: str, name: object) -> Facts:
    """What the class of a network or method says of itself, without importing it. Raises UserError."""
    of = KINDS[kind]
    if not isinstance(name, str) or name not in names(kind):
        raise UserError(f"{of.what} {shown(name)} is not known; there are {', '.join(names(kind))}")
    return of_class(ROOT, _files(kind)[name], of.base[1])


def _of_network(name: str) -> type[Keys]:
    found = facts_of("network", name)
    fields: dict[str, Any] = {
        "name": (Literal[name], Field(description="A module of experiment/models/.")),
        "activation": (
            Literal[ACTIVATIONS],
            Field(default="relu", description="Replaces every activation (smooth adversarial training)."),
        ),
    }
    for argument, (kind, default) in found.arguments.items():
        least, most = found.attributes.get("ranges", {}).get(argument, (None, None))
        about = found.attributes.get("about", {}).get(argument, f"See experiment/models/{name}.py.")
        fields[argument] = (kind, Field(default=default, ge=least, le=most, description=about))
    return create_model(f"network:{name}", __base__=Keys, **fields)


def validated(kind: str, value: Any, context: dict[str, Any] | None, default: str | None = None) -> Keys:
    """The parameters that a mapping of a suite holds, which names its plug-in or means `default`.

    Raises ValueError (pydantic's among them) where they cannot be used.
    """
    of = KINDS[kind]
    if not isinstance(value, Mapping):
        raise ValueError(f"it must be a mapping that names the {of.what} as `{of.key}`")
    if (name := value.get(of.key, default)) is None:
        raise ValueError(f"has no `{of.key}`; there are {', '.join(names(kind))}")
    if not isinstance(name, str) or name not in names(kind):
        raise ValueError(f"has the {of.what} {shown(name)}, which is not known; there are {', '.join(names(kind))}")
    try:
        model = parameters(kind, name)
    except UserError as error:
        raise ValueError(f": {error}") from None
    return model.model_validate({**value, of.key: name}, context=context)


def changed(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Of a resolved specification, the parameters that are not the plug-in's defaults, in its own order."""
    fields = parameters(kind, spec[KINDS[kind].key]).model_fields
    return {key: spec[key] for key, field in fields.items() if key != KINDS[kind].key and spec[key] != field.default}


def of_spec(kind: str, spec: Mapping[str, Any], **given: Any) -> Any:
    """The plug-in that a run's specification describes, whose values were validated with the suite.

    given: what comes from elsewhere; a plug-in takes of it what it has fields for.
    """
    cls = load(kind, spec[KINDS[kind].key])
    known = {**spec, **given}
    return cls(**{field.name: known[field.name] for field in dataclasses.fields(cls) if field.name in known})


@dataclasses.dataclass(frozen=True)
class Plugged:
    """Annotates a field of the suite that holds a plug-in's parameters. default: the plug-in where none is named."""

    kind: str
    default: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: Any, info: ValidationInfo) -> Keys:
            if isinstance(value, Keys):
                return value
            return validated(self.kind, value, info.context, self.default)

        return core_schema.with_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda found: found.model_dump(mode="json")),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        choices = [parameters(self.kind, name).model_json_schema() for name in names(self.kind)]
        if self.default is not None:
            for choice in choices:
                if choice["properties"][KINDS[self.kind].key]["const"] == self.default:
                    choice["required"] = [key for key in choice["required"] if key != KINDS[self.kind].key]
        return {"oneOf": choices}


def _files(kind: str) -> dict[str, Path]:
    """Where each plug-in of a kind is, by its name in a suite."""
    return _listed(kind, tuple(importlib.import_module(KINDS[kind].package).__path__))


@cache
def _listed(kind: str, folders: tuple[str, ...]) -> dict[str, Path]:
    of = KINDS[kind]
    if of.folders:
        return {path.parent.name: path for folder in folders for path in Path(folder).glob(f"*/{of.what}.py")}
    left_out = {"__init__", of.base[0].rpartition(".")[2], *of.no_plugins}
    files = [path for folder in folders for path in Path(folder).glob("*.py") if path.stem not in left_out]
    return {of.name(path.stem): path for path in files}


def _first_sentence(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())
