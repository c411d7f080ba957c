"""The files that a method, a plug-in and the code around them are made of. Found by reading, importing none."""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from experiment.plugins import KINDS

SHARED = ("experiment", "steps", "training", "evaluation")  # rooms of what is no method
# What runs around the plug-ins, by stage.
ENGINES = {
    "training": ("training/trainer.py",),
    "evaluation": ("evaluation/chunks.py", "experiment/precision.py"),
}
UNREAD = {("README.md",), ("about.yaml",)}  # of a method's folder: what people read makes no number
# What makes verdicts beside an attack's own file: the check of what it finds, and what it may search with.
FRAME, SEARCH = "evaluation/chunks.py", ("experiment.attacks", "experiment.pgd", "experiment.threats")


def of_engine(root: Path, stage: str) -> list[Path]:
    """What runs around the plug-ins in a stage, "training" or "evaluation", in the project `root`; with all imports.

    No plug-in is among it, as they are imported by name.
    """
    return _closure(root, [root / name for name in ENGINES[stage]], lambda name: _files(root, name))


def of_method(root: Path, method: str) -> list[Path]:
    """Every file of methods/<method> in the project `root`, in any depth, and of what its code imports.

    Of another folder of methods/ that is every file too; of any other module of the project the module alone. Left out
    are the shared rooms, README.md, about.yaml, caches and hidden files.
    """
    return _closure(root, _folder(root, method), lambda name: () if _shared(name) else _files(root, name))


def of_plugin(root: Path, kind: str, name: str) -> list[Path]:
    """A plug-in's file in the project `root`, and what it imports of its own room and of others that are not shared.

    kind: of experiment.plugins; an attack is made of the frame around all attacks too. Its room is a folder of the
    project, or of experiment/.
    """
    of = KINDS[kind]
    room = of.package.partition(".")[0]
    own = [of.package if room == "experiment" else room, *(SEARCH if kind == "attack" else ())]
    start = [f"{of.package.replace('.', '/')}/{of.stem(name)}.py", *([FRAME] if kind == "attack" else [])]

    def files(name: str) -> Iterable[Path]:
        return _files(root, name) if not _shared(name) or any(_within(name, package) for package in own) else ()

    return _closure(root, [root / file for file in start], files)


def _shared(name: str) -> bool:
    return name.partition(".")[0] in SHARED


def _within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


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
        if path.is_file() and parts not in UNREAD and not any(p == "__pycache__" or p[0] == "." for p in parts):
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


def _imported(root: Path, path: Path) -> Iterable[str]:
    return _names(path.read_bytes(), path.relative_to(root).parts[:-1]) if path.suffix == ".py" else ()


@cache
def _names(code: bytes, package: tuple[str, ...]) -> list[str]:
    """The names that code imports, at any depth of it; of `from a import b` "a" and "a.b", which may be a module."""
    try:
        return list(_imports(ast.parse(code), package))
    except (SyntaxError, ValueError):
        return []  # who imports it is told


def _imports(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    def absolute(name: str) -> str:
        level = len(name) - len(name.lstrip("."))
        above = package[: len(package) - level + 1] if level else ()
        return ".".join([*above, *filter(None, [name.lstrip(".")])])

    for node in _run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute("." * node.level + (node.module or ""))
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            words = [word.value for word in node.args[:1] if isinstance(word, ast.Constant)]
            yield from (absolute(word) for word in words if isinstance(word, str))


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """All of a module that may run, which what only a type checker reads does not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            child = ast.Module(child.orelse, [])
        yield child
        yield from _run(child)
