"""What two folders of results of one suite say differently: `python -m reporting.compare results/a results/b`.

Made on two machines, or by two versions, of whatever configuration; what differs there is named. The exit status is for
a CI of results: 0 when nothing that could be tested changed beyond noise, 1 when something did, 2 when the folders
cannot be compared.

- Accuracy, by variant and attack: b minus a, seeds paired, of runs that are ok on both sides. The noise is that of
  training again, pooled over variants and never taken to be less than what the images that only one side has right make
  of it (`statistics.changes`). Changed is what stays significant at 5 % after Holm's correction for all comparisons: of
  pairs of folders without any change, about one in twenty is called changed. That assumes that the seeds of variants
  spread alike; where one spreads much more than the others, false alarms are more frequent.
- What cannot be tested is counted: one seed tells no noise, and a run that failed on both sides is in no mean.
- Runs with the same weights are told apart from those trained again, and are identical if their verdicts are too.
- Passes are counts: under a steps rule that only looks at the epoch any difference is a change; where it looks at
  training, a t test over seeds of the logarithm of b/a joins the others.
- Seconds are shown where both ran on hardware of the same label, and decide nothing: other work on a machine moves
  them all together, which no test over seeds can see.
- A run or an evaluation that only one folder has, a status, a number of images, a run's specification or an attack's
  settings that differ are a change: the folders do not measure the same. Versions, hardware and threads by themselves
  are none, and are named, since weights depend on them.
"""

import argparse
import math
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics import changes, holm, ratio_interval
from experiment import record
from experiment.consistency import completed_settings, completed_spec
from experiment.errors import UserError
from experiment.verdicts import check_evaluates, read_verdicts
from reporting.captions import NOTHING
from reporting.formatting import signed

FIXED_RULES = {"constant", "every", "amata"}  # their passes depend on the epoch alone
ACCURACY_COLUMNS = ["variant", "attack", "seeds", "a", "b", "b − a", "verdict"]
COST_COLUMNS = ["variant", "passes a", "passes b", "verdict", "seconds a", "seconds b", "seconds b / a"]
SHOWN = 20  # lines of one kind
ONE_SEED, OTHER_IMAGES = "unknown: one seed", "not the same images"


@dataclass(frozen=True)
class Run:
    """A run's training record, and by attack its evaluations' records and verdicts."""

    train: dict
    evaluations: dict[str, dict]
    verdicts: dict[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """accuracies, costs: tables as text; the others are sentences.

    changed: none when nothing did; untested: what could not be tested; protocol, origin: what differs in what was to be
    done, which is a change, and in what it was done with, which is none.
    """

    accuracies: pd.DataFrame
    costs: pd.DataFrame
    changed: list[str]
    untested: list[str]
    protocol: list[str]
    origin: list[str]


def read_folder(folder: Path, problems: list[str]) -> dict[tuple[str, str, int], Run]:
    """Every run below results/<suite>, by data set, variant and seed; what cannot be used is added to `problems`.

    Raises UserError when there is no usable record, or records of more than one suite.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give one that holds a suite's results")
    runs = {}
    for path in sorted(folder.glob("*/*/seed*/train.json")):
        try:
            train = record.read(path)
            key = train["dataset"], train["variant"], train["seed"]
            if path.parent != folder / key[0] / key[1] / f"seed{key[2]}":
                raise UserError(f"{path}: it is of {key[0]} {key[1]} seed {key[2]}, which is another folder's")
        except UserError as error:
            problems.append(str(error))
            continue
        runs[key] = _read_run(path.parent, train, problems)
    suites = sorted({run.train["suite"] for run in runs.values()})
    if len(suites) != 1:
        found = f"records of the suites {', '.join(suites)}" if suites else problems[0] if problems else "no record"
        raise UserError(f"{folder}: {found}; it must be results/<suite>, with the records of one suite")
    return runs


def _read_run(folder: Path, train: dict, problems: list[str]) -> Run:
    evaluations, verdicts = {}, {}
    for path in sorted((folder / "evaluate").glob("*.json")):
        try:
            evaluation = record.read(path)
            check_evaluates(path, evaluation, train)
            verdicts[path.stem] = read_verdicts(path.with_name(f"{path.stem}.robust.npy"), evaluation)
            evaluations[path.stem] = evaluation
        except UserError as error:
            problems.append(str(error))
    return Run(train, evaluations, verdicts)


def compare(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> Comparison:
    """b against a, as `read_folder` gives them; see the module's docstring. Raises UserError for two suites."""
    suites = [next(iter(side.values())).train["suite"] for side in (a, b)]
    if suites[0] != suites[1]:
        raise UserError(f"the results are of two suites, {suites[0]} and {suites[1]}; compare results of one suite")
    accuracies, costs = _accuracies(a, b), _costs(a, b)
    tested = [*accuracies, *costs]
    for row, rejected in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["verdict"] = row["verdict"] or ("changed" if rejected else "unchanged within noise")
    changed = [f"{row['name']}: {row['change']}" for row in tested if row["verdict"] in ("changed", OTHER_IMAGES)]
    untested = [f"{row['name']}: one seed" for row in tested if row["verdict"] == ONE_SEED]
    several = len({dataset for dataset, *_ in a.keys() | b.keys()}) > 1
    return Comparison(
        _table(accuracies, ACCURACY_COLUMNS, several),
        _table(costs, COST_COLUMNS, several),
        [*_one_sided(a, b), *_statuses(a, b), *changed],
        [*untested, *_failed(a, b)],
        _named(_protocol(a, b)),
        _named(_origins(a, b)),
    )


def _accuracies(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> list[dict]:
    """A row for each variant and attack that both have; p and no verdict where a test is to decide."""
    rows, groups = [], {}
    for dataset, variant in _variants(a, b):
        shared = [key for key in a if key in b and key[:2] == (dataset, variant)]
        shared = [key for key in shared if a[key].train["status"] == b[key].train["status"] == "ok"]
        for attack in dict.fromkeys(name for key in shared for name in a[key].verdicts if name in b[key].verdicts):
            keys = [key for key in shared if attack in a[key].verdicts and attack in b[key].verdicts]
            first, second = ([side[key].verdicts[attack] for key in keys] for side in (a, b))
            means = [100 * float(np.mean([verdicts.mean() for verdicts in side])) for side in (first, second)]
            row = {"dataset": dataset, "variant": variant, "attack": attack, "seeds": str(len(keys)), "p": math.nan}
            row |= {"name": f"{dataset} {variant} {attack}", "a": f"{means[0]:.1f}", "b": f"{means[1]:.1f}"}
            row |= {"b − a": signed(means[1] - means[0], 1), "verdict": ""}
            rows.append(row)
            same_weights = all(a[key].train["weights_sha256"] == b[key].train["weights_sha256"] for key in keys)
            images = [sorted({len(verdicts) for verdicts in side}) for side in (first, second)]
            if same_weights and all(map(np.array_equal, first, second)):
                row["verdict"] = "identical"
            elif len({*images[0], *images[1]}) > 1:
                row["verdict"] = OTHER_IMAGES
                row["change"] = " -> ".join(" or ".join(map(str, counts)) for counts in images) + " images"
            else:
                difference = np.stack(second).astype(float) - np.stack(first)
                groups.setdefault((dataset, attack, same_weights), []).append((row, difference))
    for group in groups.values():
        for (row, _), change in zip(group, changes([difference for _, difference in group]), strict=True):
            row["p"] = change.p_value
            if math.isnan(change.p_value):
                row["verdict"] = ONE_SEED
            if not math.isnan(change.low):
                row["b − a"] += f" [{signed(100 * change.low, 1)}, {signed(100 * change.high, 1)}]"
            row["change"] = f"{row['a']} -> {row['b']} %, {row['b − a']} points"
    return rows


def _costs(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> list[dict]:
    """A row for each variant that both have."""
    rows = []
    for dataset, variant in _variants(a, b):
        pairs = [(a[key].train, b[key].train) for key in a if key in b and key[:2] == (dataset, variant)]
        pairs = [pair for pair in pairs if all(train["status"] != "diverged" for train in pair)]
        if not pairs:
            continue
        passes, seconds = (
            np.array([[train["cost"][cost] for train in pair] for pair in pairs]) for cost in ("passes", "seconds")
        )
        labels = [{train["provenance"]["hardware"]["label"] for train in pair} for pair in pairs]
        row = {"dataset": dataset, "variant": variant, "name": f"{dataset} {variant} passes", "p": math.nan}
        row |= {f"passes {side}": f"{mean:,.4g}" for side, mean in zip("ab", passes.mean(axis=0), strict=True)}
        row |= {f"seconds {side}": f"{mean:.3g}" for side, mean in zip("ab", seconds.mean(axis=0), strict=True)}
        row["change"] = f"{row['passes a']} -> {row['passes b']}"
        row["seconds b / a"] = "other hardware"
        if any(train["cost"]["disturbed"] for pair in pairs for train in pair):
            row["seconds b / a"] = "timed beside other work"
        elif all(len(label) == 1 for label in labels):
            mean, low, high = ratio_interval(seconds[:, 1] / seconds[:, 0])
            row["seconds b / a"] = f"{mean:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")
        row["verdict"], row["p"] = _passes(passes, {train["spec"]["steps"]["rule"] for pair in pairs for train in pair})
        rows.append(row)
    return rows


def _passes(passes: np.ndarray, rules: set[str]) -> tuple[str, float]:
    """A verdict, or "" and the p that decides; passes: (seeds, 2)."""
    logs = np.log(passes[:, 1] / passes[:, 0])
    if not logs.any():
        return "identical", math.nan
    if rules <= FIXED_RULES:
        return "changed", math.nan
    if len(logs) == 1:
        return ONE_SEED, math.nan
    return "", 0.0 if np.ptp(logs) == 0 else float(stats.ttest_1samp(logs, 0).pvalue)


def _variants(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(key[:2] for key in a if key in b))


def _one_sided(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> Iterator[str]:
    """Runs, and evaluations of runs that both have, which are in one folder only."""
    for name, side, other in (("a", a, b), ("b", b, a)):
        for key in side:
            if key not in other:
                yield f"{_spelled(key)}: only in {name}"
                continue
            for attack in side[key].evaluations.keys() - other[key].evaluations.keys():
                yield f"{_spelled(key)} {attack}: only in {name}"


def _statuses(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> Iterator[str]:
    for key in a:
        if key in b and a[key].train["status"] != b[key].train["status"]:
            yield f"{_spelled(key)}: {a[key].train['status']} -> {b[key].train['status']}"


def _failed(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> Iterator[str]:
    """Runs that failed on both sides in the same way, and are not the same."""
    for key in (key for key in a if key in b):
        first, second = a[key], b[key]
        if first.train["status"] == second.train["status"] != "ok":
            shared = first.verdicts.keys() & second.verdicts.keys()
            same = all(np.array_equal(first.verdicts[attack], second.verdicts[attack]) for attack in shared)
            if first.train["weights_sha256"] != second.train["weights_sha256"] or not same:
                yield f"{_spelled(key)}: {first.train['status']} in both"


def _protocol(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> Iterator[tuple[str, Mapping, Mapping]]:
    """What the shared runs were to be, and what attacks they were put under, on both sides."""
    for key in (key for key in a if key in b):
        specs = (side[key].train["spec"] for side in (a, b))
        yield key[1], *map(completed_spec, specs)
        for attack in (name for name in a[key].evaluations if name in b[key].evaluations):
            yield attack, *(completed_settings(side[key].evaluations[attack]["settings"]) for side in (a, b))


def _origins(a: Mapping[tuple, Run], b: Mapping[tuple, Run]) -> Iterator[tuple[str, Mapping, Mapping]]:
    """What the shared runs were trained and evaluated with, on both sides."""
    for key in (key for key in a if key in b):
        yield "training", _origin(a[key].train), _origin(b[key].train)
        for attack in (name for name in a[key].evaluations if name in b[key].evaluations):
            yield "evaluation", _origin(a[key].evaluations[attack]), _origin(b[key].evaluations[attack])


def _named(parts: Iterator[tuple[str, Mapping, Mapping]]) -> list[str]:
    """What two sides say differently, a line each."""
    found = {}
    for what, *sides in parts:
        first, second = (dict(_leaves(side)) for side in sides)
        for name in dict.fromkeys([*first, *second]):
            values = first.get(name, NOTHING), second.get(name, NOTHING)
            if values[0] != values[1]:
                found.setdefault((what, name), set()).add(f"{values[0]} -> {values[1]}")
    return [f"{what} {name}: {'; '.join(sorted(values))}" for (what, name), values in sorted(found.items())]


def _origin(content: dict) -> dict:
    provenance = content["provenance"]
    sources = {f"{name} source": sha256[:12] for name, sha256 in provenance["sources"].items()}
    hardware = provenance["hardware"]
    own = {"hardware": hardware["label"], "threads": hardware["threads"], "precision": provenance["precision"]}
    return own | {"python": provenance["python"]} | provenance["packages"] | sources


def _leaves(values: Mapping, path: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _spelled(key: tuple[str, str, int]) -> str:
    return f"{key[0]} {key[1]} seed {key[2]}"


def _table(rows: list[dict], columns: list[str], several: bool) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["dataset", *columns] if several else columns)


def _print(comparison: Comparison) -> None:
    for frame in (comparison.accuracies, comparison.costs):
        print(frame.to_markdown(index=False, tablefmt="simple", disable_numparse=True), end="\n\n")
    about = (
        "Accuracy in %, means over the seeds that are ok in both; 95 % intervals, each by itself. Changed: significant "
        "at 5 % over all of these comparisons together (Holm). Seconds decide nothing."
    )
    print(textwrap.fill(about, 120))
    parts = {"differs in what it was made with": comparison.origin, "differs in how it was made": comparison.protocol}
    for title, lines in (parts | {"not tested": comparison.untested, "changed": comparison.changed}).items():
        for line in lines[:SHOWN]:
            print(f"{title}: {line}")
        if len(lines) > SHOWN:
            print(f"{title}: ... and {len(lines) - SHOWN} more")
    if any(line.startswith("training ") for line in comparison.origin):
        print("Weights depend on hardware, threads, packages and sources: what differs there may be why runs differ.")
    if comparison.untested:
        count = len(comparison.untested)
        print(f"{count} comparison{'s' * (count > 1)} could not be tested.")
    elif not (comparison.changed or comparison.protocol):
        print("Nothing changed beyond noise.")


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reporting.compare", description="What two results differ in.")
    parser.add_argument("a", type=Path, metavar="A", help="a folder results/<suite>")
    parser.add_argument("b", type=Path, metavar="B", help="another, of the same suite")
    options = parser.parse_args(arguments)
    problems = []
    try:
        comparison = compare(*(read_folder(folder, problems) for folder in (options.a, options.b)))
    except UserError as error:
        problems.append(str(error))
    else:
        print(f"a: {os.path.relpath(options.a)}, b: {os.path.relpath(options.b)}\n")
        _print(comparison)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if problems else int(bool(comparison.changed or comparison.protocol))


if __name__ == "__main__":
    sys.exit(main())
