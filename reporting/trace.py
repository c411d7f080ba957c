"""Where a number in a table comes from: the records behind a cell, what made them, and how to make them again.

    python -m reporting.trace robustness pgd-7 autoattack
    python -m reporting.trace cost pgd-7 seconds --suite configs/cifar10.yaml
    python -m reporting.trace effect pgd+mplus

Without a column, every column of the variant's line is traced. Only records are read.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.results import Results, RunKey, collate, leaves
from analysis.statistics import mcnemar
from experiment.errors import UserError, reported
from experiment.record import Record
from experiment.suite import ROOT, Suite
from reporting import tables
from reporting.effect import HEADS
from reporting.formatting import Line, Table

DEFAULT_SUITE = "quick"
WIDTH = 17  # of the words before the facts


def trace(suite: Suite, folder: Path, table: str, variant: str, column: str | None, again: str) -> Iterator[str]:
    """Lines that say where a cell comes from; `column` as the table's head has it, None for all.

    folder: results/<suite>; again: the command that makes the files named after it again.
    Raises UserError when the suite has no such table, variant or column, or no records.
    """
    known = _columns(table, suite)
    results = collate(suite, folder)
    built = {made.name: made for made in tables.build(suite, results.runs)}
    lines = _lines(built[table], variant, suite)
    if column is not None and column not in known:
        raise UserError(f"the table {table} has no column {column!r} to trace; it has {', '.join(known)}")
    for name in known if column is None else [column]:
        for line in lines:
            texts = dict(line.detail) | {head: str(cell) for head, cell in line.cells.items()}
            if name in texts:
                names = [head for head in ("dataset", "variant", "hardware") if head in texts]
                shown = [texts[head] for head in names if head in built[table].columns]
                yield f"{table}, {', '.join(shown)}, {name}: {texts[name]}"
    yield f"{built[table].caption}"
    yield from built[table].notes
    wanted = list(known.values()) if column is None else [known[column]]
    for dataset in suite.datasets:
        for seed in suite.seeds:
            yield from _seed(suite, results, folder, table, RunKey(dataset, variant, seed), wanted, again)
    yield from (f"missing: {line}" for line in results.missing if variant in line.split())
    yield from (f"error: {problem}" for problem in results.problems if f"/{variant}/" in problem)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reporting.trace", description=__doc__.partition("\n")[0])
    parser.add_argument("table", metavar="TABLE", help="robustness, cost or effect")
    parser.add_argument("variant", metavar="VARIANT", help="a variant's label")
    parser.add_argument("column", metavar="COLUMN", nargs="?", help="as the table's head has it; default: all")
    parser.add_argument("--suite", default=DEFAULT_SUITE, help="a suite of configs/ or a YAML file; default: quick")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    options = parser.parse_args(arguments)
    with reported("trace"):
        named = ROOT / "configs" / f"{options.suite}.yaml"
        path = named if named.exists() else Path(options.suite)
        suite = Suite.load(path)
        configured = "" if options.suite == DEFAULT_SUITE else f" --configfile {shlex.quote(os.path.relpath(path))}"
        again = f"snakemake{configured}"
        folder = options.results / suite.name
        lines = trace(suite, folder, options.table, options.variant, options.column, again)
        try:
            for line in lines:
                print(line)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(table: Table, variant: str, suite: Suite) -> list[Line]:
    """The table's lines of that variant. Raises UserError where there are none."""
    labels = [each.label for each in suite.variants]
    if variant not in labels:
        raise UserError(f"suite {suite.name} has no variant {variant!r}; it has {', '.join(labels)}")
    lines = [line for line in table.lines if line.variant == variant]
    if not lines:
        raise UserError(f"the table {table.name} has no line for {variant!r}, a variant that names no base")
    return lines


def _columns(table: str, suite: Suite) -> dict[str, str]:
    """What can be traced, by the head of its column: an attack's name, or the name of a cost in the records.

    Raises UserError where nothing of the table can be.
    """
    attacks = {name: name for name in suite.attacks}
    costs = {head: cost for cost, head in tables.COSTS.items()}
    traced = {"robustness": attacks, "cost": costs, "effect": HEADS | attacks}
    if table not in traced:
        raise UserError(f"there is no table {table!r} to trace; the tables are {', '.join(traced)}")
    return traced[table]


def _seed(
    suite: Suite, results: Results, folder: Path, table: str, run: RunKey, wanted: list[str], again: str
) -> Iterator[str]:
    """What one seed gave to the cells of `wanted`: values, then the records behind them."""
    runs, base = results.runs, next(each.base for each in suite.variants if each.label == run.variant)
    keys = [run._replace(variant=base), run] if table == "effect" else [run]
    there = runs[(runs["dataset"] == run.dataset) & (runs["seed"] == run.seed)]
    behind = [there[there["variant"] == key.variant] for key in keys]
    yield from ("", f"{run.dataset} seed {run.seed}")
    for name in wanted:
        rows = [part[part["attack"] == name] if name in suite.attacks else part[:1] for part in behind]
        if any(part.empty for part in rows):
            yield _fact(name, "no record")
        else:
            yield _fact(name, _value(name, [part.iloc[0] for part in rows]))
    for key in (key for key in keys if key in results.records):
        records = results.records[key]
        suspect = there.loc[there["variant"] == key.variant, "suspect"].iloc[0]
        yield from _trained(folder / key.folder, records.train, suspect, again)
        for attack in (name for name in wanted if name in records.evaluations):
            yield from _evaluated(folder / key.folder, records.evaluations[attack], again)


def _value(name: str, rows: list[pd.Series]) -> str:
    """The number that a seed gave: of one run, or of a base and a variant's run."""
    if name in tables.COSTS and len(rows) == 1:
        return f"{rows[0][name]:.10g}"
    if name in HEADS.values():
        base, variant = (row[name] for row in rows)
        same = name != "seconds" or rows[0]["hardware"] == rows[1]["hardware"]
        left = "" if same else ", left out: different hardware"
        return f"{base:.10g} / {variant:.10g} = {base / variant:.4f}{left}"
    shown = [
        "not evaluated, the run diverged"
        if pd.isna(row["accuracy"])
        else f"{row['correct']} of {row['images']} images, {row['accuracy']:.2%} "
        f"(95 % Wilson interval {row['interval_low']:.2%} to {row['interval_high']:.2%})"
        for row in rows
    ]
    if len(rows) == 2 and all(row["verdicts"] is not None for row in rows):
        test = mcnemar(rows[0]["verdicts"], rows[1]["verdicts"])
        shown.append(f"right for one alone {test.only_first} and {test.only_second}, McNemar p = {test.p_value:.3g}")
    return "; ".join(shown)


def _trained(place: Path, train: Record, suspect: str, again: str) -> Iterator[str]:
    """The training behind a run's numbers."""
    cost, epochs = train["cost"], train["epochs"]
    status = "" if train["status"] == "ok" else f" at epoch {train['status_epoch']}: {train['status_reason']}"
    yield f"  {train['variant']} seed {train['seed']}, trained"
    yield _fact("record", os.path.relpath(place / "train.json"))
    yield _fact("status", f"{train['status']}{status}" + (f"; suspect: {suspect}" if suspect else ""))
    yield _fact("weights", f"SHA-256 {train['weights_sha256']}, epoch {epochs['evaluated']} of {epochs['total']}")
    busy = f"; disturbed: {cost['disturbed']}" if cost["disturbed"] else ""
    counts = f"{cost['compute']:.4g} epochs of compute, {cost['passes']:.4g} passes, {cost['updates']} updates"
    yield _fact("cost", f"{cost['seconds']:.3f} s, {counts}{busy}")
    if (teacher := train.get("teacher")) is not None:
        taught = f"{teacher['cost']['seconds']:.3f} s, {teacher['cost']['compute']:.4g} epochs of compute"
        yield _fact("teacher", f"{teacher['variant']}, weights {teacher['weights_sha256']}; {taught}, in the table too")
    yield _fact("spec", _listed(train["spec"]))
    yield from _made(train["provenance"])
    yield _fact("again", _again(again, f"{_place(train)}/train.json"))


def _evaluated(place: Path, found: Record, again: str) -> Iterator[str]:
    """One evaluation and the images behind it."""
    attack = found["attack"]
    file, verdicts = (os.path.relpath(place / "evaluate" / f"{attack}.{end}") for end in ("json", "robust.npy"))
    yield from (f"  {found['variant']} seed {found['seed']}, evaluated by {attack}", _fact("record", file))
    yield _fact("images", f"the first {found['images']} of the test set, in its order; one bool an image in {verdicts}")
    yield _fact("settings", _listed(found["settings"]))
    yield _fact("flags", "; ".join(found["flags"]) or "none")
    yield from _made(found["provenance"])
    yield _fact("again", _again(again, f"{_place(found)}/evaluate/{attack}.json"))


def _again(command: str, file: str) -> str:
    """How to make a record again: one that is there and as the suite says would be left alone."""
    return f"rm -f {file} && {command} {file}"


def _place(content: Record) -> str:
    """Where Snakemake makes a record's run, wherever this copy of it lies."""
    key = RunKey(content["dataset"], content["variant"], content["seed"])
    return f"results/{content['suite']}/{key.folder}"


def _made(provenance: Mapping[str, Any]) -> Iterator[str]:
    """With what, on what and when a record was made."""
    git, sources = provenance["git"], provenance["sources"]
    state = {True: ", with changes", False: "", None: ""}[git["dirty"]]
    yield _fact("commit", f"{git['commit']}{state}" if git["commit"] else "no checkout")
    yield _fact("sources", ", ".join(f"{name} {sha256}" for name, sha256 in sources.items()))
    yield _fact("suite", f"SHA-256 {provenance.get('suite_sha256', 'unknown: an older record')}")
    yield _fact("software", _listed({"python": provenance["python"]} | provenance["packages"]))
    yield _fact("hardware", _listed(provenance["hardware"]) + f", {provenance['precision']}")
    yield _fact("made", f"{provenance['started']} to {provenance['finished']}")


def _fact(name: str, text: str) -> str:
    return f"    {name:<{WIDTH}} {text}"


def _listed(values: Mapping[str, Any]) -> str:
    """ "steps.rule constant, training.lr 0.05": every leaf of nested settings."""
    return ", ".join(f"{name} {value}" for name, value in leaves(values))


if __name__ == "__main__":
    main()
