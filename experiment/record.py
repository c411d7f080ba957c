"""Records: the JSON files that runs and evaluations leave, and the only thing tables are made from."""

import json
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from experiment.errors import UserError
from experiment.files import write_atomically

SCHEMA = Path(__file__).with_name("record.schema.yaml")


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = yaml.safe_load(SCHEMA.read_text())
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})


def check(record: dict, where: str) -> dict:
    """The record itself, if it fits its schema; else UserError naming `where` and the field."""
    kind = record.get("kind") if isinstance(record, dict) else None
    if kind not in ("train", "evaluation"):
        raise UserError(f"{where}: kind is {kind!r}; a record's kind is 'train' or 'evaluation'")
    error = jsonschema.exceptions.best_match(_validator(kind).iter_errors(record))
    if error is not None:
        field = ".".join(str(part) for part in error.absolute_path) or "the record"
        raise UserError(f"{where}: {field}: {error.message}")
    return record


def write(path: Path, record: dict) -> None:
    """Validate and write a record, atomically. Raises UserError when it does not fit the schema."""
    check(record, str(path))
    write_atomically(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def read(path: Path) -> dict:
    """A validated record. Raises UserError when it cannot be read, is no JSON or does not fit the schema."""
    try:
        record = json.loads(path.read_text(), parse_constant=_no_number)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such record") from None
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run snakemake again") from None
    return check(record, str(path))


def _no_number(name: str):
    raise ValueError(f"{name} is no number in JSON")
