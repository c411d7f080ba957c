"""What two folders of results of one suite say differently: `python -m reporting.compare results/a results/b`.

Made on two machines, or by two versions, of whatever configuration; what differs there is named. The exit status is for
a CI of results: 0 when nothing that could be tested changed beyond noise, 1 when something did, 2 when the folders
cannot be compared. analysis/compare.py says what is tested and how.
"""

import argparse
import math
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.compare import Accuracy, Comparison, Costs, Named, compare, read_folder
from analysis.results import RunKey
from experiment.errors import UserError
from reporting.captions import NOTHING
from reporting.formatting import signed

SHOWN = 20  # lines of one kind


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reporting.compare", description="What two results differ in.")
    parser.add_argument("a", type=Path, metavar="A", help="a folder results/<suite>")
    parser.add_argument("b", type=Path, metavar="B", help="another, of the same suite")
    options = parser.parse_args(arguments)
    problems: list[str] = []
    changed = False
    try:
        a, b = (read_folder(folder, problems) for folder in (options.a, options.b))
        comparison = compare(a, b)
    except UserError as error:
        problems.append(str(error))
    else:
        print(f"a: {os.path.relpath(options.a)}, b: {os.path.relpath(options.b)}\n")
        _print(comparison, several=len({key.dataset for key in a.keys() | b.keys()}) > 1)
        changed = comparison.is_changed
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if problems else int(changed)


def _print(comparison: Comparison, several: bool) -> None:
    """Everything that the comparison says; several: whether the data set is to be named in every line."""
    for lines in ([*map(_accuracy, comparison.accuracies)], [*map(_costs, comparison.costs)]):
        frame = pd.DataFrame(lines)
        frame = frame if several or frame.empty else frame.drop(columns="dataset")
        print(frame.to_markdown(index=False, tablefmt="simple", disable_numparse=True), end="\n\n")
    about = (
        "Accuracy in %, means over the seeds that are ok in both; 95 % intervals, each by itself. Changed: significant "
        "at 5 % over all of these comparisons together (Holm). Seconds decide nothing."
    )
    print(textwrap.fill(about, 120))
    untested = [*_untested(comparison)]
    _print_lines("differs in what it was made with", [*map(_named, comparison.origin)])
    _print_lines("differs in how it was made", [*map(_named, comparison.protocol)])
    _print_lines("not tested", untested)
    _print_lines("changed", [*_changed(comparison)])
    if any(named.what == "training" for named in comparison.origin):
        print("Weights depend on hardware, threads, packages and sources: what differs there may be why runs differ.")
    if untested:
        print(f"{len(untested)} comparison{'s' * (len(untested) > 1)} could not be tested.")
    elif not comparison.is_changed:
        print("Nothing changed beyond noise.")


def _print_lines(title: str, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        print(f"{title}: {line}")
    if len(lines) > SHOWN:
        print(f"{title}: ... and {len(lines) - SHOWN} more")


def _accuracy(row: Accuracy) -> dict[str, str]:
    """The line of one variant under one attack."""
    names = {"dataset": row.dataset, "variant": row.variant, "attack": row.attack, "seeds": str(row.seeds)}
    means = {"a": f"{100 * row.a:.1f}", "b": f"{100 * row.b:.1f}"}
    return names | means | {"b − a": _difference(row), "verdict": row.outcome}


def _difference(row: Accuracy) -> str:
    change = row.change
    interval = f" [{signed(100 * change.low, 1)}, {signed(100 * change.high, 1)}]"
    return signed(100 * (row.b - row.a), 1) + ("" if math.isnan(change.low) else interval)


def _costs(row: Costs) -> dict[str, str]:
    """The line of one variant's costs."""
    line = {"dataset": row.dataset, "variant": row.variant}
    for cost in ("compute", "passes"):
        line |= {f"{cost} {name}": f"{side[cost]:,.4g}" for name, side in (("a", row.a), ("b", row.b))}
    line |= {"verdict": row.outcome, "seconds a": f"{row.a['seconds']:.3g}", "seconds b": f"{row.b['seconds']:.3g}"}
    ratio: str = row.timing
    if row.seconds_ratio is not None:
        mean, low, high = row.seconds_ratio
        ratio = f"{mean:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")
    return line | {"seconds b / a": ratio}


def _changed(comparison: Comparison) -> Iterator[str]:
    """A line for everything that is a change but for the protocol."""
    for run, attack, side in comparison.one_sided:
        yield f"{_spelled(run, attack)}: only in {side}"
    for run, a, b in comparison.statuses:
        yield f"{run}: {a} -> {b}"
    for row in comparison.accuracies:
        name = f"{row.dataset} {row.variant} {row.attack}"
        if row.outcome == "changed":
            yield f"{name}: {100 * row.a:.1f} -> {100 * row.b:.1f} %, {_difference(row)} points"
        elif row.outcome == "not the same images":
            yield f"{name}: {' -> '.join(' or '.join(map(str, counts)) for counts in row.images)} images"
    for costs in comparison.costs:
        if costs.outcome == "changed":
            sides = (f"{costs.a[cost]:,.4g} -> {costs.b[cost]:,.4g} {cost}" for cost in ("compute", "passes"))
            yield f"{costs.dataset} {costs.variant} cost: {', '.join(sides)}"


def _untested(comparison: Comparison) -> Iterator[str]:
    for row in comparison.tested:
        if row.outcome == "unknown: one seed":
            what = row.attack if isinstance(row, Accuracy) else "cost"
            yield f"{row.dataset} {row.variant} {what}: one seed"
    for run, status, _ in comparison.failed:
        yield f"{run}: {status} in both"


def _named(named: Named) -> str:
    pairs = sorted(" -> ".join(NOTHING if value is None else str(value) for value in pair) for pair in named.values)
    return f"{named.what} {named.setting}: {'; '.join(pairs)}"


def _spelled(run: RunKey, attack: str | None) -> str:
    return f"{run} {attack}" if attack else str(run)


if __name__ == "__main__":
    sys.exit(main())
