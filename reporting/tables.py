"""Tables from the runs frame of `analysis.results`: robustness, cost, what M+ changes; as CSV, Markdown and LaTeX."""

import math
from collections.abc import Sequence

import pandas as pd

from analysis.ranking import BOLD, best_variants
from analysis.results import RUN, attack_names, by_variant
from analysis.statistics import Summary, summarize
from analysis.timing import MARK, describe_disturbed, disturbed, timed
from reporting.captions import (
    NOTHING,
    SPREAD,
    describe_attacks,
    describe_protocol,
    describe_runs,
    describe_sources,
    describe_suspects,
    suspects,
)
from reporting.effect import effect_table
from reporting.formatting import Table, make_table, numbers, of_planned, plus_minus
from reporting.literature import literature

COSTS = {
    "seconds": "seconds",
    "compute": "compute",
    "passes": "passes",
    "images_per_second": "images a second",
    "peak_memory_bytes": "peak memory (MiB)",
}
TIMES = {"seconds", "images_per_second"}
SHOWN_PER_UNIT = {"peak_memory_bytes": 2.0**-20}


def build(resolved: dict, runs: pd.DataFrame) -> list[Table]:
    """The tables of a suite: robustness, cost, effect (no lines where no variant names a base) and literature.

    resolved: the suite with every default filled in; runs: the frame `analysis.results.collate` makes, not empty.
    """
    return [make(resolved, runs) for make in (_robustness, _cost, effect_table, literature)]


def _robustness(resolved: dict, runs: pd.DataFrame) -> Table:
    planned = len(resolved["seeds"])
    data, shown, detail, bold = [], [], [], []
    best = best_variants(runs)
    columns = ["collapsed", "diverged", "suspect"] if len(suspects(runs)) else ["collapsed", "diverged"]
    for identity, rows in by_variant(resolved, runs):
        states = rows.drop_duplicates(RUN)["status"]
        counts = {"runs": len(states), **{s: int((states == s).sum()) for s in ("collapsed", "diverged")}}
        counts["suspect"] = len(suspects(rows))
        valid = counts["runs"] - counts["diverged"]
        healthy = rows[rows["status"] == "ok"] if counts["collapsed"] else rows[:0]
        means, healthy_means = _accuracies(resolved, rows), _accuracies(resolved, healthy)
        data.append(identity | {"planned": planned} | counts)
        data[-1] |= numbers(means, "percent_") | numbers(healthy_means, "percent_", "_not_collapsed")
        by_seed = _by_seed(resolved, rows)
        data[-1] |= {f"{attack}_percent_seeds": values for attack, values in by_seed.items()}
        line = {key: identity[key] for key in ("dataset", "variant")}
        detail.append(line | by_seed)
        line |= {"runs": of_planned(counts["runs"], planned)} | {key: str(counts[key]) for key in columns}
        shown.append(line | {attack: plus_minus(mean, 1, valid) for attack, mean in means.items()})
        bold.append([a for a in means if (identity["dataset"], a, identity["variant"]) in best])
        left = valid - counts["collapsed"]
        if 0 < left < valid:
            line |= {"variant": f"{line['variant']}, not collapsed", "runs": str(left)} | dict.fromkeys(columns, "")
            shown.append(line | {attack: plus_minus(mean, 1, left) for attack, mean in healthy_means.items()})
            bold.append([])
    notes = [
        f"{title}: {names}."
        for status, title in (
            ("collapsed", "Collapsed (catastrophic overfitting; left out of the lines that say so)"),
            ("diverged", "Diverged (not evaluated, in no mean)"),
        )
        if (names := describe_runs(runs, status))
    ]
    flagged = runs[runs["flags"] != ""]
    for (attack, flags), rows in flagged.groupby(["attack", "flags"], sort=False):
        names = ", ".join(f"{row.variant} seed {row.seed} ({row.dataset})" for row in rows.itertuples())
        notes.append(f"Flagged by {attack}, {flags}: {names}.")
    notes += [*describe_suspects(runs), *describe_sources(runs)]
    caption = [
        "Robustness: accuracy in % on test images (runs.csv has each run's 95 % Wilson interval).",
        SPREAD,
        describe_protocol(resolved, runs),
        describe_attacks(resolved, runs),
        *([BOLD] if best else []),
    ]
    return make_table("robustness", caption, notes, data, shown, detail if planned > 1 else (), bold)


def _cost(resolved: dict, runs: pd.DataFrame) -> Table:
    data = []
    for identity, rows in by_variant(resolved, runs):
        for hardware, group in rows.drop_duplicates(RUN).groupby("hardware"):
            used = group[group["status"] != "diverged"]
            quiet = timed(used)
            costs = {cost: summarize((quiet if cost in TIMES else used)[cost]) for cost in [*COSTS, "updates"]}
            counts = {"hardware": hardware, "n": len(used), "diverged": len(group) - len(used)}
            counts |= {"disturbed": len(disturbed(used)), "n_timed": len(quiet)}
            data.append(identity | counts | numbers(costs, "", count=False))
    frame = pd.DataFrame(data)
    shown = frame[["dataset", "variant", "hardware"]].assign(
        runs=frame["n"].map(str), diverged=frame["diverged"].map(str)
    )
    for cost, title in COSTS.items():
        counted = frame["n_timed" if cost in TIMES else "n"]
        summaries = [
            Summary(mean * SHOWN_PER_UNIT.get(cost, 1), std * SHOWN_PER_UNIT.get(cost, 1), n)
            for mean, std, n in zip(frame[f"{cost}_mean"], frame[f"{cost}_std"], counted, strict=True)
        ]
        digits = _digits([summary.mean for summary in summaries])
        shown[title] = [
            plus_minus(summary, digits, n) + (f" {MARK}" if cost in TIMES and 0 < n == hurt else "")
            for summary, n, hurt in zip(summaries, frame["n"], frame["disturbed"], strict=True)
        ]
    caption = [
        "Training cost.",
        SPREAD,
        describe_protocol(resolved, runs),
        "Compute: floating-point operations of training, in ordinary epochs (a forward and a backward of every image).",
        "Passes: forward and backward of the whole network, in sweeps over the training split.",
        "Images a second: those of the training split in every epoch, replays of an image not counted again.",
        f"Peak memory: of the {' or the '.join(sorted(set(runs['peak_memory_of'])))}.",
    ]
    notes = []
    if frame["hardware"].nunique() > 1:
        caption.append("Lines of different hardware are apart: their times are not to be compared.")
    else:
        shown = shown.drop(columns="hardware")
    if frame["diverged"].any():
        notes.append("Diverged runs stopped early: counted, and in no mean.")
    notes += [*describe_disturbed(runs), *describe_sources(runs)]
    return make_table("cost", caption, notes, data, shown.to_dict("records"))


def _accuracies(resolved: dict, rows: pd.DataFrame) -> dict[str, Summary]:
    """Accuracy in % by attack; runs without one (diverged, attack missing) are not in n."""
    return {
        attack: summarize(100 * rows.loc[rows["attack"] == attack, "accuracy"]) for attack in attack_names(resolved)
    }


def _by_seed(resolved: dict, rows: pd.DataFrame) -> dict[str, str]:
    """Accuracy in % by attack, a value for each of the suite's seeds: "53.1; –; 54.0"."""
    found = {(row.attack, row.seed): row.accuracy for row in rows[rows["accuracy"].notna()].itertuples()}
    seeds = {attack: [found.get((attack, seed)) for seed in resolved["seeds"]] for attack in attack_names(resolved)}
    return {
        attack: "; ".join(NOTHING if value is None else f"{100 * value:.1f}" for value in values)
        for attack, values in seeds.items()
    }


def _digits(means: Sequence[float]) -> int:
    """Decimals that give the smallest of the means three significant digits, three at most."""
    smallest = min((mean for mean in means if mean > 0), default=1.0)
    return min(3, max(0, 2 - math.floor(math.log10(smallest))))
