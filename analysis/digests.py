"""What tables, plots, examples and the report were made of: `python -m analysis.digests SUITE [--results DIR]`.

It writes digests.json beside them: SHA-256 of every file that they were made of, and of their own. They are made again
when these are no longer the digests of the files that are there, whatever the files' times.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from experiment import claim
from experiment.errors import reported
from experiment.files import write_atomically
from experiment.suite import ROOT, Suite

NAME = "digests.json"
PRODUCTS = ("runs.csv", "summary.txt", "tables/*", "plots/*", "examples/*", "report.html")
WEIGHTS = "model.safetensors"  # large, and their digest is in train.json
PUBLISHED = ROOT / "results" / "reference"  # others' numbers, one of the things that tables are made from


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m analysis.digests", description="Digests of records and tables.")
    parser.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or - for standard input")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    options = parser.parse_args(arguments)
    with reported("digests"):
        suite = Suite.load(options.suite)
        folder = options.results / suite.name
        found = {"sources": of_sources(suite, folder), "products": of_products(folder)}
        write_atomically(folder / NAME, (json.dumps(found, indent=1) + "\n").encode())


def reason(suite: Suite, folder: Path) -> str | None:
    """Why the tables in `folder` (results/<suite>) are not those of the records there, a clause; None if they are."""
    try:
        stored = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return f"{NAME}, which says what they were made of, cannot be read"
    for kind, found in (("sources", of_sources(suite, folder)), ("products", of_products(folder))):
        listed = stored.get(kind) if isinstance(stored, dict) else None
        if listed != found:
            listed = listed if isinstance(listed, dict) else {}
            changed = next(name for name in [*found, *listed] if found.get(name) != listed.get(name))
            return f"{changed} is not what it was when they were made"
    return None


def stages(suite: Suite) -> list[str]:
    """The file by which each job is known that makes something of all records, from results/<suite>."""
    return ["runs.csv", *(f"examples/{dataset}.json" for dataset in suite.datasets), "report.html"]


def files_of_runs(suite: Suite) -> Iterator[str]:
    """The files that training and attacks leave, from results/<suite>."""
    for run in suite.runs():
        yield from (f"{run.folder}/{name}" for name in ("train.json", "epochs.csv", WEIGHTS))
        for attack in suite.attacks:
            yield from (f"{run.folder}/evaluate/{attack}.json", f"{run.folder}/evaluate/{attack}.robust.npy")


def of_sources(suite: Suite, folder: Path) -> dict[str, str | None]:
    """SHA-256 by name of all that tables are made from; None where there is no such file."""
    records = {path: _sha256(folder / path) for path in files_of_runs(suite) if not path.endswith(WEIGHTS)}
    published = {f"reference/{path.name}": _sha256(path) for path in sorted(PUBLISHED.glob("*.[cy]*"))}
    return {"suite": hashlib.sha256(claim.content(suite).encode()).hexdigest(), **published, **records}


def of_products(folder: Path) -> dict[str, str | None]:
    """SHA-256 by name of all that was made from records."""
    found = sorted(path for pattern in PRODUCTS for path in folder.glob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in found}


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


if __name__ == "__main__":
    main()
