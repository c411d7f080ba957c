"""The types of a suite's keys, and what is said of a value that is not of its type.

A type is `typing.Annotated` with pydantic's constraints, so that validation, defaults, the schema and the documentation
come from it. Lengths in units of the radius ("0.25 eps") are resolved with the threat model's eps.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from experiment.errors import UserError, shown
from experiment.quantity import as_length, as_quantity

NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,99}")
TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,1000}")


class Keys(BaseModel):
    """A mapping of a suite: its keys are the fields, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            known = sorted(field.alias or name for name, field in cls.model_fields.items())
            if unknown := [key for key in value if key not in known]:
                raise ValueError(f"has the unknown key {shown(unknown[0])}; its keys are {', '.join(known)}")
        return value


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a name is made of a-z, 0-9 and + . _ - only, and has at most 100 of them")
    return value


def _text(value: str) -> str:
    if not TEXT.fullmatch(value):
        raise ValueError("it must be text in one line")
    return value


def _path(value: str) -> str:
    if set("{}") & set(value):  # Snakemake would take what is in them for wildcards
        raise ValueError("it must be a path without the braces { and }")
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise ValueError("the home that it begins with is not known") from None
    return value


def _quantity(value: Any) -> float:
    return as_quantity(value)


def _length(value: Any, info: ValidationInfo) -> float:
    return as_length(value, (info.context or {}).get("eps"))


def _relative(value: Any, info: ValidationInfo) -> float:
    return as_quantity(value, (info.context or {}).get("eps"))


_WRITTEN = WithJsonSchema({"type": ["number", "string"]})
Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, AfterValidator(_text)]
Location = Annotated[Text, AfterValidator(_path)]  # of a file or folder; a leading ~ is the user's home
Count = Annotated[int, Field(ge=1)]
Cap = Annotated[int | None, Field(ge=1)]  # None for all
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
InnerFraction = Annotated[float, Field(gt=0, lt=1)]
Quantity = Annotated[float, BeforeValidator(_quantity), _WRITTEN]  # a number, or text such as 8/255 or 5e-4
Positive = Annotated[float, BeforeValidator(_quantity), Field(gt=0), _WRITTEN]
Length = Annotated[float, BeforeValidator(_length), _WRITTEN]  # in pixel units, in (0, 1], or "0.25 eps"
Total = Annotated[float, BeforeValidator(_relative), Field(gt=0), _WRITTEN]  # of lengths, which may be above 1
First = Annotated[int, Field(ge=0, description="Adversarial iterations in the first epoch.")]
Most = Annotated[int, Field(ge=0, description="Adversarial iterations that the rule does not go above by itself.")]
StepSize = Annotated[
    Length, Field(description="Length of a step in pixel units, in (0, 1], or of the radius (0.25 eps).")
]

_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "list": "a list"}
_KINDS |= {"dict": "a mapping", "model": "a mapping", "model_attributes": "a mapping", "tuple": "a list"}


def sentence(error: ValidationError, name: Callable[[tuple[int | str, ...]], str]) -> UserError:
    """The first thing that pydantic found wrong, in one sentence. name: of the key at a place."""
    first = error.errors()[0]
    return UserError(f"{name(first['loc'])}{_clause(first)}")


def place(loc: tuple[int | str, ...], where: str = "") -> str:
    """("attacks", 0, "seed") as "attacks[0].seed", under `where`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shown(part)[1:-1]}" for part in loc)
    return (where + "".join(parts)).lstrip(".")


def _clause(found: Mapping[str, Any]) -> str:
    kind, value = found["type"], found["input"]
    if kind == "missing":
        return " is missing"
    if kind == "value_error":
        said = str(found["ctx"]["error"])
        if said.startswith((": ", ".")):
            return said
        return f" {said}" if said.startswith(("has ", "is ")) else f" is {shown(value)}; {said}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f" is {shown(value)}; it must be {words} {found['ctx'][key]:g}"
    if kind == "too_short":
        return " is empty; it needs at least one entry"
    if kind == "literal_error":
        return f" is {shown(value)}; it must be one of {found['ctx']['expected'].replace(' or ', ', ')}"
    of = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
    return f" is {shown(value)}; it must be {_KINDS.get(of, found['msg'])}"
