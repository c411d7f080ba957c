"""Tables from the runs frame of `analysis.results`: robustness, cost, effect, literature."""

import math
from collections.abc import Iterable

import pandas as pd

from analysis.columns import NOT_COLLAPSED
from analysis.ranking import best_variants
from analysis.results import RUN, by_variant, suspects
from analysis.statistics import Summary, summarize
from analysis.timing import disturbed, timed
from experiment.suite import Suite
from reporting.captions import (
    MARK,
    NOTHING,
    SPREAD,
    describe_attacks,
    describe_beside,
    describe_disturbed,
    describe_protocol,
    describe_runs,
    describe_sources,
    describe_suspects,
    describe_teachers,
)
from reporting.effect import effect_table
from reporting.formatting import Line, Table, count_of, make_table, mean_of, numbers, words
from reporting.literature import literature

COSTS = {  # by name, the head of its column
    "seconds": "seconds",
    "compute": "compute",
    "passes": "passes",
    "images_per_second": "images a second",
    "peak_memory_bytes": "peak memory (MiB)",
}
TIMES = {"seconds", "images_per_second"}
SHOWN_PER_UNIT = {"peak_memory_bytes": 2.0**-20}
BOLD = (
    "Bold: on each data set the best of a column and what cannot be told from it by the 95 % interval of the "
    "difference, paired by seed and image (one seed in common: by McNemar's exact test), not corrected for their "
    "number; never a variant with a collapsed, diverged or suspect run."
)
ABOUT_COSTS = [
    "Compute: floating-point operations of training, in ordinary epochs (a forward and a backward of every image).",
    "Passes: forward and backward of the whole network, in sweeps over the training split; what runs through a part of "
    "it is in compute alone.",
    "Images a second: those of the training split in every epoch, replays of an image not counted again.",
]


def build(suite: Suite, runs: pd.DataFrame) -> list[Table]:
    """The tables of a suite: robustness, cost, effect (no lines where no variant names a base) and literature.

    runs: the frame `analysis.results.collate` makes, not empty.
    """
    return [make(suite, runs) for make in (_robustness, _cost, effect_table, literature)]


def _robustness(suite: Suite, runs: pd.DataFrame) -> Table:
    planned, data, lines, best = len(suite.seeds), [], [], best_variants(runs)
    columns = ["collapsed", "diverged", "suspect"] if len(suspects(runs)) else ["collapsed", "diverged"]
    for identity, rows in by_variant(suite, runs):
        states = rows.drop_duplicates(RUN)["status"]
        counts = {status: int((states == status).sum()) for status in ("collapsed", "diverged")}
        counts["suspect"] = len(suspects(rows))
        valid = len(states) - counts["diverged"]
        healthy = rows[rows["status"] == "ok"] if counts["collapsed"] else rows[:0]
        means, healthy_means = _accuracies(suite, rows), _accuracies(suite, healthy)
        by_seed = _by_seed(suite, rows)
        data.append(identity._asdict() | {"planned": planned, "runs": len(states)} | counts)
        for found, suffix in ((means, ""), (healthy_means, NOT_COLLAPSED)):
            data[-1] |= numbers({f"{attack}_percent": mean for attack, mean in found.items()}, suffix)
        data[-1] |= {f"{attack}_percent_seeds": values for attack, values in by_seed.items()}
        names = {"dataset": identity.dataset, "variant": identity.variant}
        cells = words(names) | {"runs": count_of(len(states), planned)}
        cells |= {key: count_of(counts[key]) for key in columns}
        cells |= {attack: mean_of(mean, 1, valid) for attack, mean in means.items()}
        bold = [attack for attack in means if (identity.dataset, attack, identity.variant) in best]
        lines.append(Line(identity.dataset, identity.variant, cells, bold, by_seed if planned > 1 else {}))
        left = valid - counts["collapsed"]
        if 0 < left < valid:
            cells = words(names | {"variant": f"{identity.variant}, not collapsed"}) | {"runs": count_of(left)}
            cells |= words(dict.fromkeys(columns, ""))
            cells |= {attack: mean_of(mean, 1, left) for attack, mean in healthy_means.items()}
            lines.append(Line(identity.dataset, identity.variant, cells))
    caption = [
        "Robustness: accuracy in % on test images (runs.csv has each run's 95 % Wilson interval).",
        SPREAD,
        describe_protocol(suite, runs),
        describe_attacks(suite, runs),
        *([BOLD] if best else []),
    ]
    return make_table("robustness", caption, _doubts(runs), data, lines, suite.attacks)


def _doubts(runs: pd.DataFrame) -> list[str]:
    """Sentences on runs that failed, on what attacks flagged, and on records of different origins."""
    titles = {
        "collapsed": "Collapsed (catastrophic overfitting; left out of the lines that say so)",
        "diverged": "Diverged (not evaluated, in no mean)",
    }
    notes = [f"{titles[status]}: {names}." for status in titles if (names := describe_runs(runs, status))]
    flagged = runs[runs["flags"] != ""]
    for (attack, flags), rows in flagged.groupby(["attack", "flags"], sort=False):
        names = ", ".join(f"{row.variant} seed {row.seed} ({row.dataset})" for row in rows.itertuples())
        notes.append(f"Flagged by {attack}, {flags}: {names}.")
    return [*notes, *describe_suspects(runs), *describe_sources(runs)]


def _cost(suite: Suite, runs: pd.DataFrame) -> Table:
    data, found = [], []
    for identity, rows in by_variant(suite, runs):
        for hardware, group in rows.drop_duplicates(RUN).groupby("hardware"):
            used = group[group["status"] != "diverged"]
            quiet, hurt = timed(used), len(disturbed(used))
            costs = {
                cost: summarize((quiet if cost in TIMES else used)[cost]) for cost in [*COSTS, "forwards", "updates"]
            }
            counts = {"hardware": hardware, "n": len(used), "diverged": len(group) - len(used)}
            counts |= {"disturbed": hurt, "n_timed": len(quiet)}
            data.append(identity._asdict() | counts | numbers(costs, counted=False))
            found.append((counts, costs))
    several = len({row["hardware"] for row in data}) > 1
    digits = {cost: _digits(_in_unit(costs[cost], cost).mean for _, costs in found) for cost in COSTS}
    lines = []
    for row, (counts, costs) in zip(data, found, strict=True):
        cells = words({"dataset": row["dataset"], "variant": row["variant"]})
        cells |= words({"hardware": row["hardware"]}) if several else {}
        cells |= {"runs": count_of(row["n"]), "diverged": count_of(row["diverged"])}
        for cost, head in COSTS.items():
            marked = cost in TIMES and 0 < counts["n"] == counts["disturbed"]
            mark = MARK if marked else ""
            cells[head] = mean_of(_in_unit(costs[cost], cost), digits[cost], counts["n"], mark)
        lines.append(Line(row["dataset"], row["variant"], cells))
    caption = ["Training cost.", SPREAD, describe_protocol(suite, runs), *ABOUT_COSTS]
    caption.append(f"Peak memory: of the {' or the '.join(sorted(set(runs['peak_memory_of'])))}.")
    caption += ["Lines of different hardware are apart: their times are not to be compared."] if several else []
    stopped = any(row["diverged"] for row in data)
    notes = ["Diverged runs stopped early: counted, and in no mean."] if stopped else []
    return make_table(
        "cost",
        caption,
        [*notes, *describe_teachers(runs), *describe_beside(runs), *describe_disturbed(runs), *describe_sources(runs)],
        data,
        lines,
    )


def _in_unit(summary: Summary, cost: str) -> Summary:
    """The summary in the unit that is shown."""
    factor = SHOWN_PER_UNIT.get(cost, 1)
    return Summary(summary.mean * factor, summary.std * factor, summary.n)


def _accuracies(suite: Suite, rows: pd.DataFrame) -> dict[str, Summary]:
    """Accuracy in % by attack; runs without one (diverged, attack missing) are not in n."""
    return {attack: summarize(100 * rows.loc[rows["attack"] == attack, "accuracy"]) for attack in suite.attacks}


def _by_seed(suite: Suite, rows: pd.DataFrame) -> dict[str, str]:
    """Accuracy in % by attack, a value for each of the suite's seeds: "53.1; –; 54.0"."""
    found = {(row.attack, row.seed): row.accuracy for row in rows[rows["accuracy"].notna()].itertuples()}
    seeds = {attack: [found.get((attack, seed)) for seed in suite.seeds] for attack in suite.attacks}
    return {
        attack: "; ".join(NOTHING if value is None else f"{100 * value:.1f}" for value in values)
        for attack, values in seeds.items()
    }


def _digits(means: Iterable[float]) -> int:
    """Decimals that give the smallest of the means three significant digits, three at most."""
    smallest = min((mean for mean in means if mean > 0), default=1.0)
    return min(3, max(0, 2 - math.floor(math.log10(smallest))))
