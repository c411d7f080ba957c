"""Records: the JSON files that runs and evaluations leave, and the only thing tables are made from."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import yaml

from experiment.errors import UserError, printable, shown
from experiment.files import write_atomically

LARGEST = 2**63 - 1  # of a whole number, which tables hold in 64 bits
DEEPEST = 20  # of what lies in each other in a record
LONGEST = 4_000_000  # bytes, a thousand times what a record has
SCHEMA = Path(__file__).with_name("record.schema.yaml")
Record = dict[str, Any]  # what fits SCHEMA, which has its fields


# JSON Schema calls 64.0 an integer; a count that Python would print as 64.0 is none here.
_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_TYPES)


@cache
def _validator(kind: str) -> jsonschema.protocols.Validator:
    definitions = yaml.safe_load(SCHEMA.read_text())["$defs"]
    return Validator({"$ref": f"#/$defs/{kind}", "$defs": definitions})


def check(record: Any, where: str) -> Record:
    """The record itself, if it fits its schema; else UserError naming `where` and the field."""
    kind = record.get("kind") if isinstance(record, dict) else None
    if kind not in ("train", "evaluation"):
        raise UserError(f"{where}: kind is {kind!r}; a record's kind is 'train' or 'evaluation'")
    error = jsonschema.exceptions.best_match(_validator(kind).iter_errors(record))
    if error is not None:
        field = ".".join(str(part) for part in error.absolute_path) or "the record"
        raise UserError(f"{where}: {field}: {error.message.replace(repr(error.instance), shown(error.instance))}")
    return record


def write(path: Path, record: Record) -> None:
    """Validate and write a record, atomically. Raises UserError when it does not fit the schema."""
    check(record, str(path))
    write_atomically(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def read(path: Path) -> Record:
    """A validated record, whose text can be printed wherever it goes.

    Raises UserError when it cannot be read, is no JSON or does not fit the schema.
    """
    try:
        if (size := path.stat().st_size) > LONGEST:
            raise ValueError(f"{size:,} bytes are more than any record has")
        text = path.read_text(encoding="utf-8")
        record = _printable(json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_counted))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such record") from None
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run snakemake again") from None
    return check(record, str(path))


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits[:20])


def _counted(digits: str) -> int:
    number = int(digits)
    return number if abs(number) <= LARGEST else _no_number(digits[:20])


def _printable(value: Any, depth: int = 0) -> Any:
    """The same with every text as `errors.printable` has it. Raises ValueError where it is too deep."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        return {printable(key): _printable(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_printable(part, depth + 1) for part in value]
    return printable(value) if isinstance(value, str) else value
