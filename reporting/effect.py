"""The table of effects: each variant that names a base against it, as M+ against the method without it."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.columns import NOT_COLLAPSED
from analysis.effect import COSTS, Comparison, Difference, Effect, Ratio, effects
from analysis.judgement import CHEAPER, DISAGREEING, Verdict
from analysis.results import headline_attack, suspects
from analysis.statistics import MOST_SEEDS, CrossedMean
from experiment.suite import Suite
from reporting.captions import (
    MARK,
    NOTHING,
    changed,
    describe_attacks,
    describe_disturbed,
    describe_protocol,
    describe_sources,
)
from reporting.formatting import Cell, Line, Table, count_of, estimate, make_table, numbers, signed, words

HEADS = {"less compute": "compute", "fewer passes": "passes", "faster": "seconds"}  # costs by the heads of columns
AGAINST = {  # what is joined by "but": one side gains what the other loses
    ("cheaper", "weaker"),
    ("cheaper in compute only", "weaker"),
    ("cheaper in compute but slower", "weaker"),
    ("dearer", "stronger"),
    ("dearer in compute but faster", "stronger"),
}


def effect_table(suite: Suite, runs: pd.DataFrame) -> Table:
    """Each variant that names a base against it, paired by seed and by image, with a verdict in words.

    suite, runs: as for `reporting.tables.build`.
    """
    found, attack = effects(suite, runs), headline_attack(suite)
    margin, several = suite.evaluation.equivalence_margin, len(suite.seeds) > 1
    lines, data, other = [], [], changed(suite)
    for effect in found:
        identity, planned, whole = effect.identity, len(suite.seeds), effect.whole
        names = {"dataset": identity.dataset, "base": str(identity.base), "variant": identity.variant}
        detail = {each: _in_detail(suite, whole, each) for each in suite.attacks} if several else {}
        cells = words(names) | {"pairs": count_of(whole.pairs, planned)} | _cells(whole, attack)
        said = verdict_text(whole.verdict, attack, margin, other)
        verdict = Cell(f"{said}{_in_doubt(effect, planned, other)}")
        lines.append(Line(identity.dataset, identity.variant, cells | {"verdict": verdict}, detail=detail))
        if 0 < effect.collapsed < whole.pairs:
            rest = effect.not_collapsed
            cells = words(names | {"variant": f"{identity.variant}, not collapsed"}) | {"pairs": count_of(rest.pairs)}
            cells |= _cells(rest, attack) | {"verdict": Cell(verdict_text(rest.verdict, attack, margin, other))}
            lines.append(Line(identity.dataset, identity.variant, cells))
        data.append(_data(suite, effect))
    caption, notes = _caption(suite, runs, attack, margin), _notes(suite, runs, found)
    return make_table("effect", caption, notes, data, lines, suite.attacks)


def verdict_text(verdict: Verdict, attack: str, margin: float, other: str) -> str:
    """The verdict in words, with what would settle it; margin: in points; other: what is compared with a base."""
    if verdict.robustness == "":
        return "no pair"
    if verdict.robustness == "collapsed":
        return f"{verdict.cost}; collapsed: {_by_side(verdict.collapsed, other)} of {verdict.pairs}"
    if verdict.mean is None:
        why = "one seed is no test" if verdict.pairs == 1 else f"no two seeds with {attack} on the same images"
        return f"{verdict.cost}; untested: {why}"
    if verdict.robustness == "inconclusive":
        seeds = f"inconclusive with {verdict.mean.seeds} seeds"
        return f"{verdict.cost}; {seeds}: {_what_settles(verdict.mean, margin / 100)}"
    joined = " but " if (verdict.cost, verdict.robustness) in AGAINST else " and "
    return f"{verdict.cost}{',' * (verdict.cost in DISAGREEING)}{joined}{verdict.robustness}"


def disagreements(found: list[Effect]) -> list[str]:
    """A sentence for each comparison in which compute and seconds point in different directions."""
    sentences = []
    for effect in found:
        if effect.whole.verdict.cost in DISAGREEING:
            compute, seconds = (effect.whole.costs[cost] for cost in ("compute", "seconds"))
            sentences.append(
                f"{effect.identity.variant} against {effect.identity.base} ({effect.identity.dataset}): compute and "
                f"seconds disagree, {_times(compute, 'less compute', 'more compute')} and "
                f"{_times(seconds, 'faster', 'slower')}."
            )
    return sentences


def _times(ratio: Ratio, better: str, worse: str) -> str:
    """ "1.21 times faster", or "1.10 times slower" where the ratio is below 1."""
    return f"{ratio.mean:.2f} times {better}" if ratio.mean >= 1 else f"{1 / ratio.mean:.2f} times {worse}"


def _what_settles(mean: CrossedMean, margin: float) -> str:
    if needed := mean.seeds_needed(margin):
        return f"{needed} would probably settle it"
    if mean.enough_images(margin):
        return f"over {MOST_SEEDS} would probably be needed"
    return f"more seeds alone would probably not settle it on {mean.images} images"


def _by_side(counts: Mapping[str, int], other: str) -> str:
    """ "base in 1 and M+ in 2", of what is not 0."""
    names = {"base": "base", "variant": other}
    return " and ".join(f"{name} in {counts[side]}" for side, name in names.items() if counts[side])


def _in_doubt(effect: Effect, planned: int, other: str) -> str:
    """How many runs diverged, and so are in no pair, or are suspect; "" for none."""
    found = {"diverged": effect.diverged_runs, "suspect": effect.suspect_runs}
    said = {what: _by_side(counts, other) for what, counts in found.items()}
    return "".join(f"; {what}: {seen} of {planned}" for what, seen in said.items() if seen)


def _cells(compared: Comparison, attack: str) -> dict[str, Cell]:
    """What is shown of the pairs: the ratios of costs and the difference under one attack."""
    cells = {head: _ratio(compared.costs[cost], compared.pairs) for head, cost in HEADS.items()}
    if compared.disturbed:
        cells["faster"] = cells["faster"]._replace(interval=f"{cells['faster'].interval} {MARK}".strip())
    return cells | {attack: _difference(compared.accuracies[attack], compared.pairs)}


def _ratio(ratio: Ratio, pairs: int) -> Cell:
    interval = "" if math.isnan(ratio.low) else f"[{ratio.low:.2f}, {ratio.high:.2f}]"
    return estimate(f"{ratio.mean:.2f}", ratio.mean, interval, ratio.n, pairs)


def _difference(difference: Difference, pairs: int) -> Cell:
    (low, high), summary = difference.interval, difference.summary
    interval = "" if math.isnan(low) else f"[{signed(low, 1)}, {signed(high, 1)}]"
    return estimate(signed(summary.mean, 1), summary.mean, interval, summary.n, pairs)


def _in_detail(suite: Suite, compared: Comparison, attack: str) -> str:
    """The mean with its interval, then a value for each of the suite's seeds."""
    difference = compared.accuracies[attack]
    values = _listed(suite, difference.by_seed, lambda value: signed(value, 1))
    return f"{_difference(difference, compared.pairs)}: {values}"


def _listed(suite: Suite, by_seed: dict[int, Any], text: Any) -> str:
    """ "+0.5; –; −1.1": a text for each of the suite's seeds."""
    return "; ".join(text(by_seed[seed]) if seed in by_seed else NOTHING for seed in suite.seeds)


def _data(suite: Suite, effect: Effect) -> dict[str, Any]:
    """The line of effect.csv."""
    attack, margin = headline_attack(suite), suite.evaluation.equivalence_margin
    row = effect.identity._asdict() | {"n": effect.whole.pairs, "missing": effect.missing}
    row |= {"diverged": effect.diverged, "collapsed": effect.collapsed}
    for compared, suffix in ((effect.whole, ""), (effect.not_collapsed, NOT_COLLAPSED)):
        verdict = compared.verdict
        row[f"verdict{suffix}"] = verdict_text(verdict, attack, margin, changed(suite))
        row[f"cost_verdict{suffix}"] = verdict.cost
        row |= {f"robustness_verdict{suffix}": verdict.robustness}
        row |= {} if suffix else {"headline": attack, "margin_points": margin}
        row |= {f"{name}{suffix}": value for name, value in _numbers(compared).items()}
    for each, found in effect.discordances.items():
        row[f"{each}_only_base"] = _listed(suite, found, lambda test: str(test.only_first))
        row[f"{each}_only_variant"] = _listed(suite, found, lambda test: str(test.only_second))
        row[f"{each}_mcnemar_p"] = _listed(suite, found, lambda test: f"{test.p_value:.3g}")
    return row


def _numbers(compared: Comparison) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for cost in COSTS:
        row |= {f"{cost}_ratio_{name}": value for name, value in compared.costs[cost]._asdict().items()}
    row["seconds_ratio_disturbed"] = compared.disturbed
    for attack, difference in compared.accuracies.items():
        points = f"{attack}_points"
        row |= numbers({points: difference.summary})
        row |= {f"{points}_low": difference.interval[0], f"{points}_high": difference.interval[1]}
        low, high = difference.interval_of_seeds
        row |= {f"{points}_low_seeds_only": low, f"{points}_high_seeds_only": high}
        row |= {f"{attack}_equivalence_p": difference.equivalence_p}
        row |= {f"{attack}_equivalence_p_seeds_only": difference.equivalence_p_of_seeds}
        row |= {f"{attack}_difference_p": difference.difference_p}
        row |= {f"{attack}_seeds_needed": difference.seeds_needed or math.nan}
    return row


def _caption(suite: Suite, runs: pd.DataFrame, attack: str, margin: float) -> list[str]:
    other = changed(suite)
    return [
        f"What {other} changes, base and {other} paired by seed and by image.",
        describe_protocol(suite, runs),
        f"Less compute, fewer passes and faster: base divided by {other}, geometric mean over seeds [95 % t interval "
        "on the log scale, where seeds differ]; the time only where both ran on the same hardware, undisturbed by "
        "other work.",
        f"{attack}: {other} minus base in points [95 % interval for other seeds and other images, as both are samples: "
        "crossed random effects with Satterthwaite's degrees of freedom].",
        f"Verdict: equivalent if the 90 % interval of that kind lies within ± {margin:g} point{'s' * (margin != 1)} "
        "(two one-sided tests at 5 %), else weaker or stronger if the 95 % interval leaves out zero; cheaper if every "
        f"pair took {CHEAPER:g} times less compute or more, in compute only if the times' interval shows no saving, "
        "but slower if it shows the opposite. Seeds that would settle it: those at which either test has a power of "
        "80 % if difference and spread stay as they are; a guess, as so few seeds say little of their spread. No "
        "verdict is corrected for their number.",
        "effect.csv has the other attacks, intervals over seeds alone, p values and, seed by seed, McNemar's exact "
        "test.",
        describe_attacks(suite, runs),
    ]


def _notes(suite: Suite, runs: pd.DataFrame, found: list[Effect]) -> list[str]:
    if not found:
        return ["No variant of this suite names a base."]
    notes = [
        f"A seed whose base or {changed(suite)} run is missing or diverged is no pair; effect.csv counts both.",
        *disagreements(found),
    ]
    if len(suspects(runs)):
        notes.append("Some of the runs are suspect; the table of robustness names them.")
    notes += [*describe_disturbed(runs), *describe_sources(runs)]
    if any(effect.collapsed for effect in found):
        notes.append(
            "Collapsed: a mean over runs that did and runs that did not describes neither and is not tested; the lines "
            "that say so leave out pairs in which either run did."
        )
    return notes
