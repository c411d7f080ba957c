"""What a class says of itself, found by reading its file: importing methods and networks would import torch.

Facts are class attributes with literal values; a class has those of the classes of this project that it inherits from.
"""

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment.errors import UserError

TYPES = {"int": int, "float": float, "bool": bool, "str": str}


@dataclass
class Facts:
    """attributes: by name; arguments: type and default of the constructor's keyword arguments that have a default."""

    attributes: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, tuple[type, Any]] = field(default_factory=dict)


def of_class(root: Path, path: Path, base: str) -> Facts:
    """The facts of the one class in `path` that is derived from the class named `base`. root: the project's folder.

    Raises UserError when the file cannot be read as Python, or has none or several such classes.
    """
    where = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    found = []
    try:
        for node in _tree(path).body:
            if isinstance(node, ast.ClassDef) and (facts := _derived(root, path, node, base)) is not None:
                found.append((node.name, facts))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"{where} cannot be imported: {type(error).__name__}: {error}") from None
    if len(found) != 1:
        listed = f" ({', '.join(name for name, _ in found)})" if found else ""
        raise UserError(f"{where} defines {len(found)} subclasses of {base}{listed}; it must define exactly one")
    return found[0][1]


def of_base(path: Path, base: str) -> dict[str, Any]:
    """The attributes of the class `base` in `path`, which `of_class` leaves out."""
    return next(_attributes(node) for node in _tree(path).body if isinstance(node, ast.ClassDef) and node.name == base)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path.name))


def _derived(root: Path, path: Path, node: ast.ClassDef, base: str) -> Facts | None:
    """The facts of a class, with those that it inherits; None where it is not derived from `base`."""
    facts, derived = Facts(), False
    for parent in reversed(node.bases):
        name = ast.unparse(parent).rpartition(".")[2]
        if name == base:
            derived = True
        elif (place := _defined(root, path, name)) is not None:
            inherited = _derived(root, *place, base)
            if inherited is not None:
                derived = True
                facts.attributes |= inherited.attributes
                facts.arguments |= inherited.arguments
    if not derived:
        return None
    facts.attributes |= _attributes(node)
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            facts.arguments = _arguments(part)
    return facts


def _attributes(node: ast.ClassDef) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in node.body:
        if isinstance(part, ast.Assign | ast.AnnAssign) and part.value is not None:
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            try:
                value = ast.literal_eval(part.value)
            except ValueError:
                continue  # what is computed is no fact
            found |= {target.id: value for target in targets if isinstance(target, ast.Name)}
    return found


def _arguments(function: ast.FunctionDef) -> dict[str, tuple[type, Any]]:
    pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {
        argument.arg: (TYPES[ast.unparse(argument.annotation)], ast.literal_eval(default))
        for argument, default in pairs
        if default is not None and argument.annotation is not None and ast.unparse(argument.annotation) in TYPES
    }


def _defined(root: Path, path: Path, name: str) -> tuple[Path, ast.ClassDef] | None:
    """Where in the project the class that `path` calls `name` is defined."""
    tree = _tree(path)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return path, node
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            above = path.relative_to(root).parts[: -node.level] if node.level else ()
            file = root.joinpath(*above, *(node.module or "").split("."))
            for candidate in (file.with_suffix(".py"), file / "__init__.py"):
                if candidate.is_file() and candidate != path:
                    return _defined(root, candidate, original)
    return None
