"""From records to runs.csv, tables and plots: `python -m reporting.collate SUITE [--results DIR]`."""

import argparse
import os
import sys
import textwrap
from pathlib import Path

from analysis.results import collate
from experiment.errors import reported
from experiment.files import write_atomically
from experiment.suite import Suite
from reporting import plots, tables

LINES_SHOWN = 20


def report(suite: Suite, folder: Path) -> int:
    """Collate, write runs.csv, tables and plots into `folder`, and print the robustness table.

    Returns the exit status: 1 when a file could not be used, else 0. Raises UserError when there is nothing to collate.
    """
    results = collate(suite, folder)
    files = {"runs.csv": results.runs_csv().encode()}
    built = tables.build(suite, results.runs)
    files |= {f"tables/{name}": text.encode() for table in built for name, text in table.files().items()}
    images = plots.draw(suite, results.runs, results.epochs)
    files |= {f"plots/{name}": image for name, image in images.items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    for name in set(plots.file_names(suite)) - set(images):
        (folder / "plots" / name).unlink(missing_ok=True)  # drawn from earlier records, it would contradict the tables
    robustness = built[0]
    print(f"{robustness.to_text()}\n")
    for paragraph in [robustness.caption, *robustness.notes]:
        print(textwrap.fill(paragraph, 120))
    for line in _shortened(results.missing):
        print(f"missing: {line}")
    where = os.path.relpath(folder)
    print(f"Written: {where}/runs.csv, {where}/tables/, {where}/plots/")
    for problem in _shortened(results.problems):
        print(f"error: {problem}", file=sys.stderr)
    return 1 if results.problems else 0


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reporting.collate", description="Tables and plots from records.")
    parser.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or - for standard input")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    options = parser.parse_args(arguments)
    with reported("collate"):
        suite = Suite.load(options.suite)
        return report(suite, options.results / suite.name)


def _shortened(lines: list[str]) -> list[str]:
    rest = len(lines) - LINES_SHOWN
    return lines if rest <= 0 else [*lines[:LINES_SHOWN], f"... and {rest} more; runs.csv has what is there"]


if __name__ == "__main__":
    sys.exit(main())
