"""Whose a folder of results is: it keeps a copy of its suite, and no suite of another file may have it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from experiment import provenance
from experiment.errors import UserError
from experiment.files import write_atomically
from experiment.suite import ROOT, Suite

COPY = "suite.yaml"
GIVEN = ".suite.json"  # the suite as it was given, with what names this machine's folders: what jobs read
HEAD = "# The suite of these results, every default filled in; from "


def source(files: Sequence[str | Path]) -> str:
    """The files that a suite was given in, by names that a copy of the project shares: no folder outside it in them."""
    return " + ".join(map(_name, files))


def check(folder: Path, files: Sequence[str | Path]) -> None:
    """Raise UserError where `folder` (results/<suite>) holds the results of a suite from other files than these."""
    copy = folder / COPY
    if not copy.is_file() or [Path(file).resolve() for file in files] == [copy.resolve()]:
        return
    first = copy.read_text(errors="replace").partition("\n")[0]
    owner = first.removeprefix(HEAD)
    if first.startswith(HEAD) and owner != source(files):
        raise UserError(
            f"{source(files)}: `suite: {folder.name}` is the name of {owner} too, whose results are in {folder}; give "
            f"one of them another name, or delete {copy} if both are the same suite"
        )


def stake(folder: Path, files: Sequence[str | Path], suite: Suite, given: Mapping[str, object]) -> None:
    """Leave the copy of `suite` in `folder`, atomically, and what it was made of, `given`, for the jobs.

    A suite run from its copy keeps the name there.
    """
    write_atomically(folder / GIVEN, json.dumps(given).encode())
    copy = folder / COPY
    text = copy_of(suite, files)
    if copy.is_file() and [Path(file).resolve() for file in files] == [copy.resolve()]:
        text = copy.read_text().partition("\n")[0] + "\n" + content(suite)
    if not copy.is_file() or copy.read_text(errors="replace") != text:
        write_atomically(copy, text.encode())


def copy_of(suite: Suite, files: Sequence[str | Path]) -> str:
    """What the copy of `suite`, given in `files`, says."""
    return f"{HEAD}{source(files)}\n{content(suite)}"


def reason(folder: Path, suite: Suite) -> str | None:
    """Why `folder` has no copy of `suite`, as a clause; None where it has one."""
    try:
        text = (folder / COPY).read_text(errors="replace")
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None if text.partition("\n")[2] == content(suite) else "it says other things than the suite"


def content(suite: Suite) -> str:
    """The suite as YAML, without what changes no result and may name folders."""
    kept = {key: value for key, value in suite.resolved.items() if key not in provenance.LOCAL}
    if suite.data_sources:  # else it could not be read again
        kept["data_sources"] = [
            {key: _in_here(value) if key in ("npz", "images") else value for key, value in source.items()}
            for source in kept["data_sources"]
        ]
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _in_here(path: str) -> str:
    """A path of the working directory as it is; of any other its last name."""
    place = Path(path).expanduser().resolve()
    return path if place.is_relative_to(Path.cwd()) and not Path(path).is_absolute() else place.name


def _name(file: str | Path) -> str:
    path = Path(file).resolve()
    for place in (ROOT, Path.cwd()):
        if path.is_relative_to(place):
            return path.relative_to(place).as_posix()
    return os.fspath(path.name)
