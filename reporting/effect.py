"""The table of what M+ changes: its variants against their bases, seed by seed and image by image."""

import math

import pandas as pd

from analysis.judgement import CHEAPER, SIDES, Verdict, crossed, judge, robustness
from analysis.results import attack_names, by_variant, headline_attack
from analysis.statistics import equivalence_p, mcnemar, paired_interval, ratio_interval, summarize
from analysis.timing import MARK, describe_disturbed, timed_pairs
from reporting.captions import NOTHING, changed, describe_attacks, describe_protocol, describe_sources, suspects
from reporting.formatting import NAMES, Table, make_table, numbers, of_planned, signed

SPEEDUPS = {"fewer passes": "passes", "faster": "seconds"}  # by the head of the column, the cost that is compared
RATIOS = {"fewer passes": "passes_speedup", "faster": "seconds_speedup"}  # by the same, the name in the CSV
PAIRED = ["seed", "attack", "status", "passes", "seconds", "hardware", "images", "accuracy", "suspect"]
PAIRED += ["verdicts", "disturbed"]


def effect_table(resolved: dict, runs: pd.DataFrame) -> Table:
    """Each variant that names a base against it, paired by seed and by image, with a verdict in words.

    resolved, runs: as for `reporting.tables.build`.
    """
    planned, attack = len(resolved["seeds"]), headline_attack(resolved)
    margin = resolved["evaluation"]["equivalence_margin"]
    data, shown, detail = [], [], []
    for identity, rows in by_variant(resolved, runs):
        if identity["base"]:
            base = runs[(runs["dataset"] == identity["dataset"]) & (runs["variant"] == identity["base"])]
            pairs = base[PAIRED].merge(rows[PAIRED], on=["seed", "attack"], suffixes=("_base", "_mplus"))
            diverged = (pairs["status_base"] == "diverged") | (pairs["status_mplus"] == "diverged")
            collapsed = (pairs["status_base"] == "collapsed") | (pairs["status_mplus"] == "collapsed")
            used, healthy = pairs[~diverged], pairs[~diverged & ~collapsed]
            n, hurt = used["seed"].nunique(), used["seed"].nunique() - healthy["seed"].nunique()
            counts = {"n": n, "missing": planned - pairs["seed"].nunique()}
            counts |= {"diverged": pairs["seed"].nunique() - n, "collapsed": hurt}
            verdict, left = judge(used, attack, margin), judge(healthy if hurt else healthy[:0], attack, margin)
            data.append(identity | counts | _verdict_columns(verdict, attack, margin, ""))
            data[-1] |= _numbers(resolved, used, margin, "")
            data[-1] |= _verdict_columns(left, attack, margin, "_not_collapsed")
            data[-1] |= _numbers(resolved, healthy if hurt else healthy[:0], margin, "_not_collapsed")
            data[-1] |= _discordances(resolved, pairs)
            line = {key: identity[key] for key in NAMES}
            detail.append(line | _by_seed(resolved, used))
            line |= {"pairs": of_planned(n, planned)}
            shown.append(line | _cells(used, attack, n) | {"verdict": _text(verdict, pairs, planned)})
            if 0 < hurt < n:
                line |= {"variant": f"{line['variant']}, not collapsed", "pairs": str(n - hurt)}
                shown.append(line | _cells(healthy, attack, n - hurt) | {"verdict": left.text})
    caption = _caption(resolved, runs, attack, margin)
    return make_table("effect", caption, _notes(runs, data), data, shown, detail if planned > 1 else ())


def _caption(resolved: dict, runs: pd.DataFrame, attack: str, margin: float) -> list[str]:
    other = changed(resolved)
    return [
        f"What {other} changes, base and {other} paired by seed and by image.",
        describe_protocol(resolved, runs),
        f"Fewer passes and faster: base divided by {other}, geometric mean over seeds [95 % t interval on the log "
        "scale, where seeds differ]; the time only where both ran on the same hardware, undisturbed by other work.",
        f"{attack}: {other} minus base in points [95 % interval for other seeds and other images, as both are samples: "
        "crossed random effects with Satterthwaite's degrees of freedom].",
        f"Verdict: equivalent if the 90 % interval of that kind lies within ± {margin:g} point{'s' * (margin != 1)} "
        "(two one-sided tests at 5 %), else weaker or stronger if the 95 % interval leaves out zero; cheaper if every "
        f"pair took {CHEAPER:g} times fewer passes or more, in passes only if the times' interval shows no saving. "
        "Seeds that would settle it: those at which either test has a power of 80 % if difference and spread stay as "
        "they are; a guess, as so few seeds say little of their spread. No verdict is corrected for their number.",
        "effect.csv has the other attacks, intervals over seeds alone, p values and, seed by seed, McNemar's "
        "exact test.",
        describe_attacks(resolved, runs),
    ]


def _notes(runs: pd.DataFrame, data: list[dict]) -> list[str]:
    if not data:
        return ["No variant of this suite names a base."]
    notes = ["A seed whose base or M+ run is missing or diverged is no pair; effect.csv counts both."]
    if len(suspects(runs)):
        notes.append("Some of the runs are suspect; the table of robustness names them.")
    notes += [*describe_disturbed(runs), *describe_sources(runs)]
    if any(row["collapsed"] for row in data):
        notes.append(
            "Collapsed: a mean over runs that did and runs that did not describes neither and is not tested; the lines "
            "that say so leave out pairs in which either run did."
        )
    return notes


def _verdict_columns(verdict: Verdict, attack: str, margin: float, suffix: str) -> dict:
    columns = {f"verdict{suffix}": verdict.text, f"cost_verdict{suffix}": verdict.cost}
    columns |= {f"robustness_verdict{suffix}": verdict.robustness}
    return columns if suffix else columns | {"headline": attack, "margin_points": margin}


def _text(verdict: Verdict, pairs: pd.DataFrame, planned: int) -> str:
    """The verdict and, where runs diverged and so are in no pair or are suspect, how many."""
    once, text = pairs.drop_duplicates("seed"), verdict.text
    for what, column, is_so in (("diverged", "status", "diverged".__eq__), ("suspect", "suspect", bool)):
        counts = {name: sum(map(is_so, once[f"{column}_{side}"])) for side, name in SIDES.items()}
        if any(counts.values()):
            seen = " and ".join(f"{name} in {count}" for name, count in counts.items() if count)
            text += f"; {what}: {seen} of {planned}"
    return text


def _speedups(pairs: pd.DataFrame) -> dict[str, list[float]]:
    """Base divided by M+, a value a pair; the time only of pairs whose times are compared."""
    once = pairs.drop_duplicates("seed")
    timed, _ = timed_pairs(once)
    return {
        "fewer passes": list(once["passes_base"] / once["passes_mplus"]),
        "faster": list(timed["seconds_base"] / timed["seconds_mplus"]),
    }


def _all_disturbed(pairs: pd.DataFrame) -> bool:
    return timed_pairs(pairs.drop_duplicates("seed"))[1]


def _points(pairs: pd.DataFrame, attack: str) -> pd.Series:
    """M+ minus base in points under an attack, by seed; of seeds at which both sides had as many images."""
    rows = pairs[(pairs["attack"] == attack) & (pairs["images_base"] == pairs["images_mplus"])].set_index("seed")
    return (100 * (rows["accuracy_mplus"] - rows["accuracy_base"])).dropna()


def _numbers(resolved: dict, pairs: pd.DataFrame, margin: float, suffix: str) -> dict:
    columns = {}
    for head, ratios in _speedups(pairs).items():
        mean, low, high = ratio_interval(ratios)
        name = RATIOS[head]
        columns |= {f"{name}_mean{suffix}": mean, f"{name}_low{suffix}": low, f"{name}_high{suffix}": high}
        columns |= {f"{name}_n{suffix}": len(ratios)}
    columns |= {f"seconds_speedup_disturbed{suffix}": _all_disturbed(pairs)}
    for attack in attack_names(resolved):
        values, name = _points(pairs, attack), f"{attack}_points"
        columns |= numbers({name: summarize(values)}, "", suffix)
        mean = crossed(pairs[pairs["attack"] == attack])
        low, high = (math.nan, math.nan) if mean is None else (100 * bound for bound in mean.interval())
        low_of_seeds, high_of_seeds = paired_interval(values)
        found = {f"{name}_low": low, f"{name}_high": high}
        found |= {f"{name}_low_seeds_only": low_of_seeds, f"{name}_high_seeds_only": high_of_seeds}
        found |= {f"{attack}_equivalence_p": math.nan if mean is None else mean.equivalence_p(margin / 100)}
        found |= {f"{attack}_equivalence_p_seeds_only": equivalence_p(values, margin)}
        found |= {f"{attack}_difference_p": math.nan if mean is None else mean.difference_p()}
        undecided = mean is not None and robustness(mean, margin / 100) == "inconclusive"
        found |= {f"{attack}_seeds_needed": (undecided and mean.seeds_needed(margin / 100)) or math.nan}
        columns |= {f"{key}{suffix}": value for key, value in found.items()}
    return columns


def _cells(pairs: pd.DataFrame, attack: str, n: int) -> dict[str, str]:
    """What is shown of the pairs: both speed-ups and the difference under one attack."""
    cells = {}
    for head, ratios in _speedups(pairs).items():
        mean, low, high = ratio_interval(ratios)
        cells[head] = _cell(f"{mean:.2f}", f"{low:.2f}, {high:.2f}", low, len(ratios), n)
    cells["faster"] += f" {MARK}" if _all_disturbed(pairs) else ""
    return cells | {attack: _difference(pairs, attack, n)}


def _difference(pairs: pd.DataFrame, attack: str, n: int) -> str:
    values, mean = _points(pairs, attack), crossed(pairs[pairs["attack"] == attack])
    low, high = (math.nan, math.nan) if mean is None else (100 * bound for bound in mean.interval())
    return _cell(signed(summarize(values).mean, 1), f"{signed(low, 1)}, {signed(high, 1)}", low, len(values), n)


def _cell(mean: str, interval: str, low: float, known: int, expected: int) -> str:
    """ "3.22 [2.73, 3.79]"; no interval where it is not known, "(n = 2)" where not all pairs have a value."""
    if known == 0:
        return NOTHING
    count = f" (n = {known})" if known != expected else ""
    return f"{mean}{count}" + ("" if math.isnan(low) else f" [{interval}]")


def _by_seed(resolved: dict, pairs: pd.DataFrame) -> dict[str, str]:
    """By attack, the mean with its interval, then a value for each of the suite's seeds."""
    cells, n = {}, pairs["seed"].nunique()
    for attack in attack_names(resolved):
        values = _points(pairs, attack)
        listed = "; ".join(signed(values[s], 1) if s in values else NOTHING for s in resolved["seeds"])
        cells[attack] = f"{_difference(pairs, attack, n)}: {listed}"
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
