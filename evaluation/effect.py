"""The table of what M+ changes: its variants against their bases, seed by seed."""

import math

import pandas as pd

from evaluation.captions import (
    NOTHING,
    attack_names,
    by_variant,
    describe_attacks,
    describe_protocol,
    describe_sources,
    suspects,
)
from evaluation.statistics import mcnemar, paired_interval, summarize
from evaluation.typeset import NAMES, Table, make_table, numbers, of_planned, plus_minus, signed

SPEEDUPS = {"fewer passes": "data_passes", "faster": "seconds"}  # by the head of the column, the cost that is compared


def mplus_effect(resolved: dict, runs: pd.DataFrame) -> Table:
    """Each variant that names a base against it, paired by seed and, in the CSV's McNemar columns, by image.

    resolved, runs: as for `evaluation.tables.build`.
    """
    planned = len(resolved["seeds"])
    data, shown = [], []
    for identity, rows in by_variant(resolved, runs):
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
            data[-1] |= _discordances(resolved, pairs)
            line = {key: identity[key] for key in NAMES}
            line |= {"pairs": of_planned(used, planned), "collapsed": str(hurt)}
            shown.append(line | _effect_cells(effects, used))
            if 0 < hurt < used:
                line |= {"variant": f"{line['variant']}, not collapsed", "pairs": str(used - hurt), "collapsed": ""}
                shown.append(line | _effect_cells(healthy, used - hurt))
    notes = ["A seed whose base or M+ run is missing or diverged is no pair; mplus_effect.csv counts both."]
    if not data:
        notes = ["No variant of this suite names a base."]
    if len(suspects(runs)):
        notes.append("Some of the runs are suspect; the table of robustness names them.")
    notes += describe_sources(runs)
    if any(row["collapsed"] for row in data):
        notes.append("Collapsed: pairs in which either run did; the lines that say so leave them out.")
    caption = [
        "What M+ changes, base and M+ paired by seed.",
        describe_protocol(resolved, runs),
        "Fewer passes and faster: base divided by M+, the time only where both ran on the same hardware.",
        "Attacks: M+ minus base in points; the 95 % t interval of the mean difference is in mplus_effect.csv and, in "
        "brackets, in mplus_effect.md.",
        "Seed by seed, mplus_effect.csv has how many images only one of the two networks gets right, and McNemar's "
        "exact p; these are not pooled, for all seeds share their images.",
        describe_attacks(resolved, runs),
    ]
    return make_table("mplus_effect", caption, notes, data, shown)


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
        columns |= numbers({name: summarize(values)}, "", suffix)
        if not speedup:
            columns |= dict(zip((f"{name}_low{suffix}", f"{name}_high{suffix}"), paired_interval(values), strict=True))
    return columns


def _effect_cells(effects: dict[str, list[float]], pairs: int) -> dict[str, str]:
    cells = {}
    for effect, values in effects.items():
        summary, (low, high) = summarize(values), paired_interval(values)
        if effect in SPEEDUPS:
            cells[effect] = plus_minus(summary, 2, pairs)
        else:
            interval = "" if math.isnan(low) else f" [{signed(low, 1)}, {signed(high, 1)}]"
            cells[effect] = plus_minus(summary, 1, pairs, sign=True) + interval
    return cells


def _discordances(resolved: dict, pairs: pd.DataFrame) -> dict[str, str]:
    """By attack, a value a seed: images that only the base or only M+ has right, and McNemar's p."""
    columns = {}
    for attack in attack_names(resolved):
        rows = pairs[pairs["attack"] == attack].set_index("seed")
        found = {
            seed: mcnemar(base, mplus)
            for seed, base, mplus in zip(rows.index, rows["verdicts_base"], rows["verdicts_mplus"], strict=True)
            if base is not None and mplus is not None and len(base) == len(mplus)
        }
        tests = [found.get(seed) for seed in resolved["seeds"]]
        columns[f"{attack}_only_base"] = "; ".join(str(test.only_first) if test else NOTHING for test in tests)
        columns[f"{attack}_only_mplus"] = "; ".join(str(test.only_second) if test else NOTHING for test in tests)
        columns[f"{attack}_mcnemar_p"] = "; ".join(f"{test.p_value:.3g}" if test else NOTHING for test in tests)
    return columns
