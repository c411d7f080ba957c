"""YAML and JSON read strictly: nothing twice, nothing that is no plain content, and every refusal in one sentence."""

import json
import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from experiment.errors import UserError, shown

MOST_VALUES, MOST_LEVELS = 100_000, 20  # far more than a suite has; references to references can stand for billions
MOST_WHOLE = 2**53  # whole numbers beyond it are not all floats


class _Loader(yaml.SafeLoader):
    """YAML in which a mapping may not have a key twice: PyYAML would keep the last one and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError):  # PyYAML's own, of a scalar that is not of its tag
            kind = node.tag.rpartition(":")[2]
            said = f"{shown(node.value)} cannot be read as {kind}"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from None


def read(path: str | Path) -> Any:
    """The content of a YAML or JSON file. Raises UserError naming the file, and the line where it is known."""
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({getattr(error, 'strerror', None) or error})") from None
    return parse(content, str(path))


def parse(content: bytes | str, where: str) -> Any:
    """What a YAML or JSON file says. where: its name, for the message. Raises UserError, if possible with the line."""
    try:
        text = content if isinstance(content, str) else content.decode()
    except UnicodeDecodeError as error:
        line, byte = error.object[: error.start].count(b"\n") + 1, error.object[error.start]
        raise UserError(f"{where}, line {line}: the byte {byte:#x} is not UTF-8; save the file as UTF-8") from None
    try:
        parsed = _json(text)
        return yaml.load(text, _Loader) if parsed is None else parsed
    except yaml.reader.ReaderError as error:
        line, character = text[: error.position].count("\n") + 1, ascii(text[error.position])
        raise UserError(f"{where}, line {line}: not readable as YAML (the character {character})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        begun = f"{error.context} of line {error.context_mark.line + 1}: " if error.context_mark else ""
        said = " ".join(f"{begun}{error.problem}".split())
        raise UserError(f"{where}{f', line {mark.line + 1}' if mark else ''}: not readable as YAML ({said})") from None
    except RecursionError:
        raise UserError(f"{where}: not readable as YAML (it is nested too deeply)") from None


def _json(text: str) -> Any:
    """The content of a JSON text, which YAML would not always read alike (5e-05, tabs); None where it is none."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("YAML's reader says which key is there twice, and where")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except ValueError:
        return None


def check_plain(value: object, where: str) -> None:
    """Raise UserError unless a content is made of text, finite numbers, truth values, lists and mappings, and small."""
    left = MOST_VALUES

    def check(part: object, key: str, level: int) -> None:
        nonlocal left
        left -= 1
        if left < 0 or level > MOST_LEVELS:
            raise UserError(f"{where or 'the suite'} has more than {MOST_VALUES} values or {MOST_LEVELS} levels")
        if isinstance(part, dict):
            for name, value in part.items():
                if not isinstance(name, str):
                    raise UserError(f"{key or 'the suite'} has the key {shown(name)}; a key must be text")
                check(value, f"{key}.{shown(name)[1:-1]}".lstrip("."), level + 1)
        elif isinstance(part, list):
            for position, value in enumerate(part):
                check(value, f"{key}[{position}]", level + 1)
        elif isinstance(part, float) and not math.isfinite(part):
            raise UserError(f"{key} is {part}; a number must be finite")
        elif isinstance(part, int) and abs(part) > MOST_WHOLE:
            raise UserError(f"{key} is a number of {part.bit_length()} bits; it must lie within 2^53")
        elif not (part is None or isinstance(part, str | int | float)):
            raise UserError(f"{key or 'the suite'} is read as {type(part).__name__} ({shown(part)}); put it in quotes")

    check(value, where, 0)
