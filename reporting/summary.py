"""A suite's results in three sentences made from its numbers: what M+ changes, what is on the front, what to doubt."""

from collections.abc import Iterable
from statistics import median

import pandas as pd

from analysis.effect import Effect, effects
from analysis.judgement import DISAGREEING
from analysis.pareto import standings
from analysis.results import RUN, headline_attack, suspects
from analysis.timing import disturbed
from experiment.suite import Suite
from reporting.captions import changed, describe_runs
from reporting.formatting import signed

NAMED = 5  # names in a row; more are counted
PHRASES = {  # by the verdict on accuracy
    "equivalent": "{names} {is_are} equivalent within {margin}",
    "weaker": "{names} {is_are} weaker ({points})",
    "stronger": "{names} {is_are} stronger ({points})",
    "inconclusive": "for {names} neither a difference nor equivalence within {margin} is shown",
    "collapsed": "{names} {is_are} not judged, as runs of a pair collapsed",
    "untested": "{names} {is_are} untested, which would take two seeds on the same images",
    "": "{names} {is_are} without a pair of runs",
}


def summary(suite: Suite, runs: pd.DataFrame) -> list[str]:
    """Three sentences in plain text: what M+ changes, which variants are on the front, what must not be read into it.

    suite, runs: as for `reporting.tables.build`.
    """
    found = effects(suite, runs)
    return [_effects(suite, found), _front(suite, runs), _doubts(suite, runs, found)]


def _effects(suite: Suite, found: list[Effect]) -> str:
    if not found:
        return "No variant of this suite names a base, so that it does not say what M+ changes."
    where = f"On {_listed(suite.datasets)}"
    if not any(effect.whole.pairs for effect in found):
        return f"{where}, no M+ variant and its base are a pair of finished runs, so that nothing is compared."
    attack, margin = headline_attack(suite), suite.evaluation.equivalence_margin
    phrases = []
    for verdict, phrase in PHRASES.items():
        ours = [effect for effect in found if effect.whole.verdict.robustness == verdict]
        if ours:
            means = sorted(effect.whole.accuracies[attack].summary.mean for effect in ours)
            words = {"points": f"{_range(signed(mean, 1) for mean in means)} points"}
            words |= {"margin": f"{margin:g} point{'s' * (margin != 1)}", "names": _names(suite, ours)}
            phrases.append(phrase.format(**words, is_are="are" if len(ours) > 1 else "is"))
    against = [effect for effect in found if effect.whole.verdict.cost in DISAGREEING]
    contrary = f"; compute and seconds disagree on {_names(suite, against)}" if against else ""
    return f"{where}, {_savings(suite, found)}{contrary}; under {attack}, {'; '.join(phrases)}."


def _savings(suite: Suite, found: list[Effect]) -> str:
    """ "M+ saves compute in 4 of 5 comparisons (1.2 to 2.0 times less, 3 of them 1.1 to 1.8 times faster)"."""
    cheaper = [effect.whole for effect in found if effect.whole.verdict.cost.startswith("cheaper")]
    faster = [each for each in cheaper if each.verdict.cost == "cheaper" and not each.disturbed]
    less = sorted(each.costs["compute"].mean for each in cheaper)
    times = sorted(each.costs["seconds"].mean for each in faster if each.costs["seconds"].n)
    of = f"{len(times)} of them " if len(times) < len(cheaper) else ""
    sizes = [f"{_range(f'{value:.1f}' for value in less)} times less"] if less else []
    sizes += [f"{of}{_range(f'{value:.1f}' for value in times)} times faster"] if times else []
    said = f"{changed(suite)} saves compute in {len(cheaper)} of {_counted(len(found), 'comparison')}"
    return said + (f" ({', '.join(sizes)})" if sizes else "")


def _front(suite: Suite, runs: pd.DataFrame) -> str:
    attack, parts = headline_attack(suite), []
    for dataset, rows in runs[runs["attack"] == attack].groupby("dataset", sort=False):
        found = standings(suite, rows, "compute")
        best = found[found["front"]].sort_values("cost")
        if len(best):
            shown = best if len(best) <= NAMED else best.iloc[[0, -1]]
            points = [f"{row.Index} ({row.percent:.1f} % for {row.cost:.3g} epochs)" for row in shown.itertuples()]
            if len(best) > NAMED:
                points.insert(1, f"{len(best) - 2} between them")
            parts.append(_listed(points) + (f" on {dataset}" if len(suite.datasets) > 1 else ""))
    if not parts:
        return f"No variant has all its runs sound and evaluated by {attack}, so that there is no front to speak of."
    unsure = " (neighbours may change places)" if len(suite.variants) > 1 else ""
    return f"On the front of mean {attack} accuracy against compute in ordinary epochs{unsure}: {'; '.join(parts)}."


def _doubts(suite: Suite, runs: pd.DataFrame, found: list[Effect]) -> str:
    attack, seeds = headline_attack(suite), len(suite.seeds)
    attacked = runs[(runs["attack"] == attack) & (runs["evaluation_status"] == "ok")]
    counts = " or ".join(f"{count:,}" for count in sorted(attacked["images"].unique())) or "no"
    doubts = [f"All of this rests on {_seeds(suite, attacked)} and {counts} test images"]
    judged = [effect.whole.accuracies[attack] for effect in found if effect.whole.verdict.robustness != "collapsed"]
    widths = [high - low for low, high in (difference.interval for difference in judged) if low == low]
    if widths:
        doubts[0] += f", which tell a typical difference to ± {median(widths) / 2:.1f} points"
    trained = runs.drop_duplicates(RUN)
    for status in ("collapsed", "diverged"):
        if count := int((trained["status"] == status).sum()):
            names = f" ({describe_runs(runs, status)})" if count <= NAMED else ""
            doubts.append(f"{_counted(count, 'run')} {status}{names}")
    if count := len(suspects(runs)):
        doubts.append(
            f"{_counted(count, 'run')} {'are' if count > 1 else 'is'} suspect, perhaps less robust than found"
        )
    if count := len(disturbed(runs)):
        doubts.append(
            f"{count} of {_counted(len(trained), 'run')} {'were' if count > 1 else 'was'} timed on a machine busy with "
            f"other work, and no speed-up is claimed from {'them' if count > 1 else 'it'}"
        )
    if count := len(suite.datasets) * len(suite.variants) * seeds - len(trained):
        doubts.append(f"{_counted(count, 'run')} {'are' if count > 1 else 'is'} missing")
    if count := int((runs["evaluation_status"] == "missing").sum()):
        doubts.append(f"{_counted(count, 'evaluation')} {'are' if count > 1 else 'is'} missing")
    hardware = sorted(set(runs["hardware"]))
    if len(hardware) == 1:
        doubts.append(f"seconds are those of {hardware[0]} and of no other machine")
    else:
        doubts.append(f"seconds are of {len(hardware)} kinds of hardware and compare only within one")
    return "; ".join(doubts) + "."


def _seeds(suite: Suite, attacked: pd.DataFrame) -> str:
    """ "3 seeds", or "1 to 3 seeds" where not all variants were attacked at as many."""
    found = attacked.groupby(["dataset", "variant"])["seed"].nunique().tolist()
    found += [0] * (len(suite.datasets) * len(suite.variants) - len(found))
    least, most = min(found), max(found)
    if not most:
        return "no seed"
    return _counted(most, "seed") if least == most else f"{least} to {_counted(most, 'seed')}"


def _names(suite: Suite, found: list[Effect]) -> str:
    several = len(suite.datasets) > 1
    names = [f"{e.identity.variant} on {e.identity.dataset}" if several else e.identity.variant for e in found]
    return _listed(names) if len(names) <= NAMED else f"{len(names)} comparisons"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


def _range(texts: Iterable[str]) -> str:
    """ "1.8 to 4.1" from sorted numbers, "1.8" where the ends read the same."""
    first, last = (texts := list(texts))[0], texts[-1]
    return first if first == last else f"{first} to {last}"


def _listed(names: Iterable[str]) -> str:
    *most, last = names or [""]
    return f"{', '.join(most)} and {last}" if most else last
