"""Tables from the runs frame of `evaluation.collate`: robustness, cost, what M+ changes; as CSV, Markdown and LaTeX."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from evaluation.captions import NOTHING, RUN, attack_names, describe_attacks, describe_protocol, describe_runs
from evaluation.statistics import Summary, paired_interval, summarize

COSTS = {
    "seconds": "seconds",
    "data_passes": "passes",
    "seconds_per_pass": "ms a pass",
    "images_per_second": "images a second",
    "peak_memory_bytes": "peak memory (MiB)",
}
SHOWN_PER_UNIT = {"seconds_per_pass": 1e3, "peak_memory_bytes": 2.0**-20}
NAMES = ["dataset", "base", "variant"]
LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "−": "$-$",
        "±": r"$\pm$",
    }
)


@dataclass(frozen=True)
class Table:
    """One table: `data` has each number in a column of its own; `shown`, and `latex` where it is narrower, is text."""

    name: str
    caption: str
    notes: list[str]
    data: pd.DataFrame
    shown: pd.DataFrame
    latex: pd.DataFrame

    def files(self) -> dict[str, str]:
        """Contents by file name: `<name>.csv`, `<name>.md` and `<name>.tex`."""
        return {
            f"{self.name}.csv": self.data.to_csv(index=False, float_format="%.10g", lineterminator="\n"),
            f"{self.name}.md": self._to_markdown(),
            f"{self.name}.tex": self._to_latex(),
        }

    def to_text(self) -> str:
        """The table in columns of fixed width, for a terminal."""
        return _grid(self.shown, "simple")

    def _to_markdown(self) -> str:
        table = _grid(self.shown.map(lambda cell: cell.replace("|", "\\|")), "pipe")
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"{self.caption}\n\n{table}\n" + (f"\n{notes}" if notes else "")

    def _to_latex(self) -> str:
        """A table environment that needs the package booktabs and nothing else."""
        lines = [list(self.latex.columns), *self.latex.to_numpy().tolist()]
        header, *body = [" & ".join(escape_latex(cell) for cell in line) + r" \\" for line in lines]
        columns = "".join(side[0] for side in _sides(self.latex))
        rows = [
            r"\begin{table}[htbp]",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape_latex(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", header, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}",
            *(rf"\par\smallskip{{\footnotesize {escape_latex(note)}}}" for note in self.notes),
            r"\end{table}",
        ]
        return "\n".join(rows) + "\n"


def build(resolved: dict, runs: pd.DataFrame) -> list[Table]:
    """The tables of a suite: robustness, cost and mplus_effect, which has no lines where no variant names a base.

    resolved: the suite with every default filled in; runs: the frame `evaluation.collate.collate` makes, not empty.
    """
    return [_robustness(resolved, runs), _cost(resolved, runs), _mplus_effect(resolved, runs)]


def escape_latex(text: str) -> str:
    """`text` with every character that LaTeX would act on made printable."""
    return text.translate(LATEX)


def plus_minus(summary: Summary, digits: int, expected: int, sign: bool = False) -> str:
    """ "53.1 ± 0.8"; "53.1 ± –" for one value, "–" for none; "(n = 2)" follows where `expected` is another number."""
    if summary.n == 0:
        return NOTHING
    mean = _signed(summary.mean, digits) if sign else f"{summary.mean:.{digits}f}"
    std = f"{summary.std:.{digits}f}" if summary.n > 1 else NOTHING
    return f"{mean} ± {std}" + (f" (n = {summary.n})" if summary.n != expected else "")


def _robustness(resolved: dict, runs: pd.DataFrame) -> Table:
    planned = len(resolved["seeds"])
    data, shown = [], []
    for identity, rows in _by_variant(resolved, runs):
        states = rows.drop_duplicates(RUN)["status"]
        counts = {"runs": len(states), **{s: int((states == s).sum()) for s in ("collapsed", "diverged")}}
        valid = counts["runs"] - counts["diverged"]
        healthy = rows[rows["status"] == "ok"] if counts["collapsed"] else rows[:0]
        means, healthy_means = _accuracies(resolved, rows), _accuracies(resolved, healthy)
        data.append(identity | {"planned": planned} | counts)
        data[-1] |= _numbers(means, "percent_") | _numbers(healthy_means, "percent_", "_not_collapsed")
        line = {key: identity[key] for key in ("dataset", "variant")} | {key: str(n) for key, n in counts.items()}
        line["runs"] = _of(counts["runs"], planned)
        shown.append(line | {attack: plus_minus(mean, 1, valid) for attack, mean in means.items()})
        left = valid - counts["collapsed"]
        if 0 < left < valid:
            line |= {"variant": f"{line['variant']}, not collapsed", "runs": str(left), "collapsed": "", "diverged": ""}
            shown.append(line | {attack: plus_minus(mean, 1, left) for attack, mean in healthy_means.items()})
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
    caption = [
        "Robustness: accuracy in % on test images (runs.csv has each run's 95 % Wilson interval).",
        describe_protocol(resolved, runs),
        describe_attacks(resolved, runs),
    ]
    return _table("robustness", caption, notes, data, shown)


def _cost(resolved: dict, runs: pd.DataFrame) -> Table:
    data = []
    for identity, rows in _by_variant(resolved, runs):
        for hardware, group in rows.drop_duplicates(RUN).groupby("hardware"):
            used = group[group["status"] != "diverged"]
            costs = {cost: summarize(used[cost]) for cost in [*COSTS, "passes", "partial_passes", "updates"]}
            counts = {"hardware": hardware, "n": len(used), "diverged": len(group) - len(used)}
            data.append(identity | counts | _numbers(costs, "", count=False))
    frame = pd.DataFrame(data)
    shown = frame[["dataset", "variant", "hardware"]].assign(
        runs=frame["n"].map(str), diverged=frame["diverged"].map(str)
    )
    for cost, title in COSTS.items():
        summaries = [
            Summary(mean * SHOWN_PER_UNIT.get(cost, 1), std * SHOWN_PER_UNIT.get(cost, 1), n)
            for mean, std, n in zip(frame[f"{cost}_mean"], frame[f"{cost}_std"], frame["n"], strict=True)
        ]
        digits = _digits([summary.mean for summary in summaries])
        shown[title] = [plus_minus(summary, digits, summary.n) for summary in summaries]
    caption = [
        "Training cost.",
        describe_protocol(resolved, runs),
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
    if (frame["partial_passes_mean"] > 0).any():
        notes.append("Passes through the first layer alone are not counted as passes; cost.csv has partial_passes.")
    return _table("cost", caption, notes, data, shown.to_dict("records"))


def _mplus_effect(resolved: dict, runs: pd.DataFrame) -> Table:
    planned = len(resolved["seeds"])
    data, shown = [], []
    for identity, rows in _by_variant(resolved, runs):
        if identity["base"]:
            base = runs[(runs["dataset"] == identity["dataset"]) & (runs["variant"] == identity["base"])]
            pairs = base.merge(rows, on=["seed", "attack"], suffixes=("_base", "_mplus"))
            diverged = (pairs["status_base"] == "diverged") | (pairs["status_mplus"] == "diverged")
            collapsed = (pairs["status_base"] == "collapsed") | (pairs["status_mplus"] == "collapsed")
            paired, used, hurt = (
                pairs[rows]["seed"].nunique() for rows in (slice(None), ~diverged, collapsed & ~diverged)
            )
            effects = _effects(resolved, pairs[~diverged])
            healthy = _effects(resolved, pairs[~diverged & ~collapsed] if hurt else pairs[:0])
            counts = {"n": used, "missing": planned - paired, "diverged": paired - used, "collapsed": hurt}
            data.append(identity | counts | _effect_numbers(effects, "") | _effect_numbers(healthy, "_not_collapsed"))
            line = {key: identity[key] for key in NAMES}
            line |= {"pairs": _of(used, planned), "collapsed": str(hurt)}
            shown.append(line | _effect_cells(effects, used))
            if 0 < hurt < used:
                line |= {"variant": f"{line['variant']}, not collapsed", "pairs": str(used - hurt), "collapsed": ""}
                shown.append(line | _effect_cells(healthy, used - hurt))
    notes = ["A seed whose base or M+ run is missing or diverged is no pair; mplus_effect.csv counts both."]
    if not data:
        notes = ["No variant of this suite names a base."]
    if any(row["collapsed"] for row in data):
        notes.append("Collapsed: pairs in which either run did; the lines that say so leave them out.")
    caption = [
        "What M+ changes, base and M+ paired by seed.",
        describe_protocol(resolved, runs),
        "Fewer passes and faster: base divided by M+, the time only where both ran on the same hardware.",
        "Attacks: M+ minus base in points; the 95 % t interval of the mean difference is in mplus_effect.csv and, in "
        "brackets, in mplus_effect.md.",
        describe_attacks(resolved, runs),
    ]
    return _table("mplus_effect", caption, notes, data, shown)


def _table(name: str, caption: list[str], notes: list[str], data: list[dict], shown: list[dict]) -> Table:
    """The table; the data set is left out of what is shown where there is one, intervals out of the narrow form."""
    frame, text = (pd.DataFrame(rows, columns=None if rows else NAMES) for rows in (data, shown))
    text = text if text["dataset"].nunique() > 1 else text.drop(columns="dataset")
    return Table(name, " ".join(caption), notes, frame, text, text.map(lambda cell: cell.partition(" [")[0]))


def _by_variant(resolved: dict, runs: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """Each data set and variant in the suite's order, with its rows (none where nothing was trained)."""
    for dataset in resolved["datasets"]:
        for variant in resolved["variants"]:
            identity = {"dataset": dataset, "variant": variant["label"], "base": variant.get("base")}
            identity |= {"method": variant["method"], "rule": variant["steps"]["rule"]}
            yield identity, runs[(runs["dataset"] == dataset) & (runs["variant"] == variant["label"])]


def _accuracies(resolved: dict, rows: pd.DataFrame) -> dict[str, Summary]:
    """Accuracy in % by attack; runs without one (diverged, attack missing) are not in n."""
    return {
        attack: summarize(100 * rows.loc[rows["attack"] == attack, "accuracy"]) for attack in attack_names(resolved)
    }


def _effects(resolved: dict, pairs: pd.DataFrame) -> dict[str, list[float]]:
    """Paired values by column: the two speed-ups, then M+ minus base in points for each attack."""
    once = pairs.drop_duplicates("seed")
    timed = once[once["hardware_base"] == once["hardware_mplus"]]
    points = 100 * (pairs["accuracy_mplus"] - pairs["accuracy_base"])
    return {
        "fewer passes": list(once["data_passes_base"] / once["data_passes_mplus"]),
        "faster": list(timed["seconds_base"] / timed["seconds_mplus"]),
    } | {attack: list(points[pairs["attack"] == attack]) for attack in attack_names(resolved)}


def _effect_numbers(effects: dict[str, list[float]], suffix: str) -> dict:
    columns = {}
    for effect, values in effects.items():
        speedup = {"fewer passes": "passes_speedup", "faster": "seconds_speedup"}.get(effect)
        name = speedup or f"{effect}_points"
        columns |= _numbers({name: summarize(values)}, "", suffix)
        if not speedup:
            columns |= dict(zip((f"{name}_low{suffix}", f"{name}_high{suffix}"), paired_interval(values), strict=True))
    return columns


def _effect_cells(effects: dict[str, list[float]], pairs: int) -> dict[str, str]:
    cells = {}
    for effect, values in effects.items():
        summary, (low, high) = summarize(values), paired_interval(values)
        if effect in ("fewer passes", "faster"):
            cells[effect] = plus_minus(summary, 2, pairs)
        else:
            interval = "" if math.isnan(low) else f" [{_signed(low, 1)}, {_signed(high, 1)}]"
            cells[effect] = plus_minus(summary, 1, pairs, sign=True) + interval
    return cells


def _numbers(summaries: dict[str, Summary], unit: str, suffix: str = "", count: bool = True) -> dict:
    """Columns for the CSV: `<name>_<unit>mean`, `<name>_<unit>std` and `<name>_n`."""
    columns = {}
    for name, summary in summaries.items():
        columns |= {f"{name}_{unit}mean{suffix}": summary.mean, f"{name}_{unit}std{suffix}": summary.std}
        columns |= {f"{name}_n{suffix}": summary.n} if count else {}
    return columns


def _signed(value: float, digits: int) -> str:
    """The number with its sign; what rounds to zero is +0.0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def _of(count: int, planned: int) -> str:
    return str(count) if count == planned else f"{count} of {planned}"


def _digits(means: Sequence[float]) -> int:
    """Decimals that give the smallest of the means three significant digits, three at most."""
    smallest = min((mean for mean in means if mean > 0), default=1.0)
    return min(3, max(0, 2 - math.floor(math.log10(smallest))))


def _sides(frame: pd.DataFrame) -> list[str]:
    words = ("dataset", "variant", "base", "hardware")
    return ["left" if column in words else "right" for column in frame.columns]


def _grid(frame: pd.DataFrame, style: str) -> str:
    return frame.to_markdown(index=False, tablefmt=style, disable_numparse=True, colalign=_sides(frame))
