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
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from analysis.results import attack_names, collate
from analysis.statistics import mcnemar
from experiment import record
from experiment.errors import UserError, reported
from experiment.suite import ROOT, Suite
from reporting import tables
from reporting.effect import SPEEDUPS
from reporting.formatting import Table

DEFAULT_SUITE = "quick"
WIDTH = 17  # of the words before the facts


def trace(resolved: dict, results: Path, table: str, variant: str, column: str | None, again: str) -> Iterator[str]:
    """Lines that say where a cell comes from; `column` as the table's head has it, None for all.

    results: the suite's folder; again: the command that makes the files named after it again.
    Raises UserError when the suite has no such table, variant or column, or no records.
    """
    known = _columns(table, resolved)
    found = collate(resolved, results)
    built = {made.name: made for made in tables.build(resolved, found.runs)}
    lines = _lines(built[table], variant, resolved)
    if column is not None and column not in known:
        raise UserError(f"the table {table} has no column {column!r} to trace; it has {', '.join(known)}")
    for name in known if column is None else [column]:
        for line in (line for line in lines if name in line):
            label = ", ".join(line[key] for key in ("dataset", "variant", "hardware") if key in line)
            yield f"{table}, {label}, {name}: {line[name]}"
    yield f"{built[table].caption}"
    yield from built[table].notes
    wanted = list(known.values()) if column is None else [known[column]]
    for dataset in resolved["datasets"]:
        for seed in resolved["seeds"]:
            yield from _seed(resolved, found.runs, results, table, (dataset, variant, seed), wanted, again)
    yield from (f"missing: {line}" for line in found.missing if variant in line.split())
    yield from (f"error: {problem}" for problem in found.problems if f"/{variant}/" in problem)


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
        again = f"snakemake{configured} --force"
        folder = options.results / suite.name
        lines = trace(suite.resolved, folder, options.table, options.variant, options.column, again)
        try:
            for line in lines:
                print(line)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(table: Table, variant: str, resolved: dict) -> list[dict]:
    """The table's lines for the variant, with the line that leaves collapsed runs out."""
    labels = [each["label"] for each in resolved["variants"]]
    if variant not in labels:
        raise UserError(f"suite {resolved['suite']} has no variant {variant!r}; it has {', '.join(labels)}")
    lines = [line for line in table.shown.to_dict("records") if line["variant"].partition(", not ")[0] == variant]
    if table.detail is not None:  # columns that only the page of Markdown shows, on demand
        more = {(row.get("dataset"), row["variant"]): row for row in table.detail.to_dict("records")}
        lines = [more.get((line.get("dataset"), line["variant"]), {}) | line for line in lines]
    if not lines:
        raise UserError(f"the table {table.name} has no line for {variant!r}, a variant that names no base")
    return lines


def _columns(table: str, resolved: dict) -> dict[str, str]:
    """What can be traced, by the head of its column: an attack's name, or the name of a cost in the records.

    Raises UserError where nothing of the table can be.
    """
    attacks = {name: name for name in attack_names(resolved)}
    costs = {title: cost for cost, title in tables.COSTS.items()}
    traced = {"robustness": attacks, "cost": costs, "effect": SPEEDUPS | attacks}
    if table not in traced:
        raise UserError(f"there is no table {table!r} to trace; the tables are {', '.join(traced)}")
    return traced[table]


def _seed(
    resolved: dict, runs: pd.DataFrame, results: Path, table: str, run: tuple, wanted: list[str], again: str
) -> Iterator[str]:
    """What one seed gave to the cells of `wanted`: values, then the records behind them."""
    dataset, variant, seed = run
    there = runs[(runs["dataset"] == dataset) & (runs["seed"] == seed)]
    ours = there[there["variant"] == variant]
    base = next(each.get("base") for each in resolved["variants"] if each["label"] == variant)
    behind = [there[there["variant"] == base], ours] if table == "effect" else [ours]
    yield from ("", f"{dataset} seed {seed}")
    for name in wanted:
        rows = [part[part["attack"] == name] if name in attack_names(resolved) else part[:1] for part in behind]
        if any(part.empty for part in rows):
            yield _fact(name, "no record")
        else:
            yield _fact(name, _value(name, [part.iloc[0] for part in rows]))
    for part in behind:
        for row in part[:1].itertuples():
            folder = results / row.dataset / row.variant / f"seed{row.seed}"
            yield from _trained(folder, row, again)
            for attack in (name for name in wanted if name in attack_names(resolved)):
                if (part[part["attack"] == attack]["evaluation_status"] != "missing").all():
                    yield from _evaluated(folder, attack, again)


def _value(name: str, rows: list[pd.Series]) -> str:
    """The number that a seed gave: of one run, or of a base and an M+ run."""
    if name in tables.COSTS and len(rows) == 1:
        return f"{rows[0][name]:.10g}"
    if name in SPEEDUPS.values():
        base, mplus = (row[name] for row in rows)
        same = name == "passes" or rows[0]["hardware"] == rows[1]["hardware"]
        return f"{base:.10g} / {mplus:.10g} = {base / mplus:.4f}" + ("" if same else ", left out: different hardware")
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


def _trained(folder: Path, row, again: str) -> Iterator[str]:
    """The training behind a run's numbers."""
    train = record.read(folder / "train.json")
    cost, epochs = train["cost"], train["epochs"]
    file = os.path.relpath(folder / "train.json")
    status = "" if train["status"] == "ok" else f" at epoch {train['status_epoch']}: {train['status_reason']}"
    yield from (f"  {row.variant} seed {row.seed}, trained", _fact("record", file))
    yield _fact("status", f"{train['status']}{status}" + (f"; suspect: {row.suspect}" if row.suspect else ""))
    yield _fact("weights", f"SHA-256 {train['weights_sha256']}, epoch {epochs['evaluated']} of {epochs['total']}")
    busy = f"; disturbed: {cost['disturbed']}" if cost["disturbed"] else ""
    yield _fact("cost", f"{cost['seconds']:.3f} s, {cost['passes']:.4g} passes, {cost['updates']} updates{busy}")
    yield _fact("spec", _told(train["spec"]))
    yield from _made(train["provenance"])
    yield _fact("again", f"{again} {_place(train)}/train.json")


def _evaluated(folder: Path, attack: str, again: str) -> Iterator[str]:
    """One evaluation and the images behind it."""
    found = record.read(folder / "evaluate" / f"{attack}.json")
    file, verdicts = (os.path.relpath(folder / "evaluate" / f"{attack}.{end}") for end in ("json", "robust.npy"))
    yield from (f"  {found['variant']} seed {found['seed']}, evaluated by {attack}", _fact("record", file))
    yield _fact("images", f"the first {found['images']} of the test set, in its order; one bool an image in {verdicts}")
    yield _fact("settings", _told(found["settings"]))
    yield _fact("flags", "; ".join(found["flags"]) or "none")
    yield from _made(found["provenance"])
    yield _fact("again", f"{again} {_place(found)}/evaluate/{attack}.json")


def _place(content: dict) -> str:
    """Where Snakemake makes a record's run, wherever this copy of it lies."""
    return f"results/{content['suite']}/{content['dataset']}/{content['variant']}/seed{content['seed']}"


def _made(provenance: dict) -> Iterator[str]:
    """With what, on what and when a record was made."""
    git, sources = provenance["git"], provenance["sources"]
    state = {True: ", with changes", False: "", None: ""}[git["dirty"]]
    yield _fact("commit", f"{git['commit']}{state}" if git["commit"] else "no checkout")
    yield _fact("sources", ", ".join(f"{name} {sha256}" for name, sha256 in sources.items()))
    yield _fact("suite", f"SHA-256 {provenance.get('suite_sha256', 'unknown: an older record')}")
    yield _fact("software", _told({"python": provenance["python"]} | provenance["packages"]))
    yield _fact("hardware", _told(provenance["hardware"]) + f", {provenance['precision']}")
    yield _fact("made", f"{provenance['started']} to {provenance['finished']}")


def _fact(name: str, text: str) -> str:
    return f"    {name:<{WIDTH}} {text}"


def _told(values: dict, path: str = "") -> str:
    """ "steps.rule constant, training.lr 0.05": every leaf of nested settings."""
    return ", ".join(
        _told(value, f"{path}{key}.") if isinstance(value, dict) and value else f"{path}{key} {value}"
        for key, value in values.items()
    )


if __name__ == "__main__":
    main()
