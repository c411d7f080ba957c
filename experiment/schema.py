"""What a suite may say: its YAML read strictly, held against suite.schema.yaml, completed with its defaults."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from experiment.errors import UserError

SCHEMA = Path(__file__).resolve().parent.parent / "configs" / "suite.schema.yaml"


class _Loader(yaml.SafeLoader):
    """YAML in which a mapping may not have a key twice: PyYAML would keep the last one and say nothing."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


# JSON Schema calls 64.0 an integer; a count that Python would print as 64.0 is none here.
_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_TYPES)


def read_yaml(text: str, where: str):
    """The content of a YAML text. where: its file, for the message. Raises UserError."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not readable as YAML ({' '.join(str(error).split())})") from None


@cache
def suite() -> dict:
    """The schema of a suite, configs/suite.schema.yaml."""
    return yaml.safe_load(SCHEMA.read_text())


def validate(value, schema: Mapping, where: str) -> None:
    """Raise UserError with the clearest of the schema's complaints; `where` is the key that `value` lies under."""
    error = jsonschema.exceptions.best_match(_Validator({**schema, "$defs": suite()["$defs"]}).iter_errors(value))
    if error is None:
        return
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    key = (where + path).lstrip(".") or "the suite"
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"])
        unknown = next(name for name in error.instance if name not in known)
        raise UserError(f"{key} has the unknown key {unknown!r}; its keys are {', '.join(known)}")
    if error.validator == "pattern":
        raise UserError(f"{key} is {error.instance!r}; a name is made of a-z, 0-9 and + . _ - only")
    if error.validator == "minItems":
        raise UserError(f"{key} is empty; it needs at least one entry")
    raise UserError(f"{key}: {error.message}")


def fill_defaults(value, schema: Mapping) -> None:
    """Put the schema's defaults where `value` says nothing, all the way down."""
    schema = _followed(schema)
    if isinstance(value, dict):
        for key, part in schema.get("properties", {}).items():
            target = _followed(part)
            if "default" in target:
                value.setdefault(key, copy.deepcopy(target["default"]))
            if key in value:
                fill_defaults(value[key], target)
    elif isinstance(value, list):
        for item in value:
            fill_defaults(item, schema.get("items", {}))


def _followed(schema: Mapping) -> Mapping:
    """The schema with what it refers to."""
    return {**suite()["$defs"][schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema
