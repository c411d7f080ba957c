"""The files that a method or an attack is made of, and those that it imports. Found by reading, importing none."""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SHARED = ("experiment", "steps", "training", "evaluation")  # rooms that all methods share; records have a hash of them


def of_method(root: Path, method: str) -> list[Path]:
    """Every file of methods/<method> in the project `root`, in any depth, and of what its code imports.

    Of another folder of methods/ that is every file too; of any other module of the project the module alone. Left out
    are the shared rooms, README.md, caches and hidden files.
    """

    def files(name: str) -> Iterable[Path]:
        return () if name.partition(".")[0] in SHARED else _files(root, name)

    return _closure(root, _folder(root, method), files)


def of_attack(root: Path, attack: str, norm: str) -> list[Path]:
    """What makes an attack's verdicts in the project `root`: its file, the frame around all attacks, the norm's file.

    And what those import of evaluation/, experiment/threats/, experiment/attacks.py and experiment/pgd.py; so not the
    command that writes the record. attack: as a suite names it, such as pgd-20.
    """

    def files(name: str) -> Iterable[Path]:
        searching = name.partition(".")[0] == "evaluation" or name.startswith(
            ("experiment.attacks", "experiment.threats", "experiment.pgd")
        )
        return _files(root, name) if searching else ()

    own = (f"evaluation/attacks/{attack.partition('-')[0]}.py", "evaluation/chunks.py", f"experiment/threats/{norm}.py")
    return _closure(root, [root / name for name in own], files)


def _closure(root: Path, start: Iterable[Path], files: Callable[[str], Iterable[Path]]) -> list[Path]:
    """The files to start with and all that they import. files: those that an import of a name runs, if they count."""
    found: set[Path] = set()
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in _imported(root, path) for file in files(name)]
    return sorted(found)


def _folder(root: Path, method: str) -> Iterator[Path]:
    folder = root / "methods" / method
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts != ("README.md",) and not any(p == "__pycache__" or p[0] == "." for p in parts):
            yield path


def _files(root: Path, name: str) -> Iterator[Path]:
    """The files that an import of `name` ("methods.pgd.method") runs; none where it is no module of the project."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return
    if parts[0] == "methods" and len(parts) > 1 and (root / "methods" / parts[1]).is_dir():
        yield from _folder(root, parts[1])
    packages = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    yield from filter(Path.is_file, [*packages, root.joinpath(*parts).with_suffix(".py")])


def _imported(root: Path, path: Path) -> Iterator[str]:
    """The names that a file imports, at any depth of it; of `from a import b` "a" and "a.b", which may be a module."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # who imports it is told
    package = path.relative_to(root).parts[:-1]

    def absolute(name: str) -> str:
        level = len(name) - len(name.lstrip("."))
        above = package[: len(package) - level + 1] if level else ()
        return ".".join([*above, *filter(None, [name.lstrip(".")])])

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute("." * node.level + (node.module or ""))
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            words = [word.value for word in node.args[:1] if isinstance(word, ast.Constant)]
            yield from (absolute(word) for word in words if isinstance(word, str))
