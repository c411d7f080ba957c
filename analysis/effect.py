"""What a variant changes against its base, as M+ against the method without it: numbers, paired by seed and image."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from analysis.judgement import SIDES, Verdict, crossed, judge, robustness
from analysis.results import Identity, by_variant, headline_attack
from analysis.statistics import (
    CrossedMean,
    Discordance,
    Summary,
    equivalence_p,
    mcnemar,
    paired_interval,
    ratio_interval,
    summarize,
)
from analysis.timing import timed_pairs
from experiment.suite import Suite

COSTS = ("compute", "passes", "seconds")
PAIRED = ["seed", "attack", "status", *COSTS, "hardware", "images", "accuracy", "suspect", "verdicts", "disturbed"]
UNKNOWN = (math.nan, math.nan)


class Ratio(NamedTuple):
    """A cost of the base divided by the variant's: geometric mean over `n` pairs, and its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Accuracy of the variant minus its base's under one attack, in points; NaN for what cannot be had.

    by_seed: of seeds at which both sides had as many images; crossed: over seeds and images, None where that cannot be
    tested; interval: its 95 % interval; interval_of_seeds and equivalence_p_of_seeds: of a t test over seeds alone;
    seeds_needed: at which one of the two tests would probably decide, None where one has or none would.
    """

    by_seed: dict[int, float]
    crossed: CrossedMean | None
    interval: tuple[float, float]
    interval_of_seeds: tuple[float, float]
    equivalence_p: float
    equivalence_p_of_seeds: float
    difference_p: float
    seeds_needed: int | None

    @property
    def summary(self) -> Summary:
        """Mean and spread over seeds."""
        return summarize(list(self.by_seed.values()))


@dataclass(frozen=True)
class Comparison:
    """Pairs of runs, none of which diverged: costs by name, accuracies by attack, and the verdict.

    disturbed: whether all pairs whose seconds are compared were timed beside other work.
    """

    pairs: int
    costs: dict[str, Ratio]
    disturbed: bool
    accuracies: dict[str, Difference]
    verdict: Verdict


@dataclass(frozen=True)
class Effect:
    """A variant against its base.

    missing, diverged: seeds that are no pair, as a run is not there or diverged; collapsed: pairs in which a run did.
    whole: of all pairs; not_collapsed: of those in which no run collapsed, without a pair where none did collapse.
    diverged_runs, suspect_runs: how many on each side, of the seeds at which both ran.
    discordances: by attack and seed, of pairs on as many images.
    """

    identity: Identity
    missing: int
    diverged: int
    collapsed: int
    whole: Comparison
    not_collapsed: Comparison
    diverged_runs: dict[str, int]
    suspect_runs: dict[str, int]
    discordances: dict[str, dict[int, Discordance]]


def effects(suite: Suite, runs: pd.DataFrame) -> list[Effect]:
    """Every variant that names a base, against it, in the suite's order.

    suite, runs: the suite, and the frame of `analysis.results`.
    """
    return [
        _effect(suite, identity, runs[_is(runs, identity.dataset, identity.base)], rows)
        for identity, rows in by_variant(suite, runs)
        if identity.base
    ]


def _is(runs: pd.DataFrame, dataset: str, label: str) -> "pd.Series[bool]":
    return (runs["dataset"] == dataset) & (runs["variant"] == label)


def _effect(suite: Suite, identity: Identity, base: pd.DataFrame, variant: pd.DataFrame) -> Effect:
    pairs = base[PAIRED].merge(variant[PAIRED], on=["seed", "attack"], suffixes=("_base", "_variant"))
    diverged, collapsed = (
        (pairs["status_base"] == status) | (pairs["status_variant"] == status) for status in ("diverged", "collapsed")
    )
    used, healthy = pairs[~diverged], pairs[~diverged & ~collapsed]
    together, n = pairs["seed"].nunique(), used["seed"].nunique()
    hurt = n - healthy["seed"].nunique()
    once = pairs.drop_duplicates("seed")
    return Effect(
        identity=identity,
        missing=len(suite.seeds) - together,
        diverged=together - n,
        collapsed=hurt,
        whole=_comparison(suite, used),
        not_collapsed=_comparison(suite, healthy if hurt else healthy[:0]),
        diverged_runs={side: int((once[f"status_{side}"] == "diverged").sum()) for side in SIDES},
        suspect_runs={side: int((once[f"suspect_{side}"] != "").sum()) for side in SIDES},
        discordances={attack: _discordances(pairs[pairs["attack"] == attack]) for attack in suite.attacks},
    )


def _comparison(suite: Suite, pairs: pd.DataFrame) -> Comparison:
    once, margin = pairs.drop_duplicates("seed"), suite.evaluation.equivalence_margin
    timed, disturbed = timed_pairs(once)
    return Comparison(
        pairs=len(once),
        costs={cost: _ratio(timed if cost == "seconds" else once, cost) for cost in COSTS},
        disturbed=disturbed,
        accuracies={a: _difference(pairs[pairs["attack"] == a], margin / 100) for a in suite.attacks},
        verdict=judge(pairs, headline_attack(suite), margin),
    )


def _ratio(once: pd.DataFrame, cost: str) -> Ratio:
    ratios = (once[f"{cost}_base"] / once[f"{cost}_variant"]).tolist()
    return Ratio(*ratio_interval(ratios), len(ratios))


def _difference(pairs: pd.DataFrame, margin: float) -> Difference:
    """Of pairs under one attack; margin: a fraction."""
    same = pairs[pairs["images_base"] == pairs["images_variant"]].set_index("seed")
    points = (100 * (same["accuracy_variant"] - same["accuracy_base"])).dropna()
    mean, by_seed = crossed(pairs), {int(seed): float(value) for seed, value in points.items()}  # type: ignore[call-overload]
    low, high = UNKNOWN if mean is None else mean.interval()
    undecided = mean is not None and robustness(mean, margin) == "inconclusive"
    return Difference(
        by_seed=by_seed,
        crossed=mean,
        interval=(100 * low, 100 * high),
        interval_of_seeds=paired_interval(list(by_seed.values())),
        equivalence_p=math.nan if mean is None else mean.equivalence_p(margin),
        equivalence_p_of_seeds=equivalence_p(list(by_seed.values()), 100 * margin),
        difference_p=math.nan if mean is None else mean.difference_p(),
        seeds_needed=mean.seeds_needed(margin) if mean is not None and undecided else None,
    )


def _discordances(pairs: pd.DataFrame) -> dict[int, Discordance]:
    """By seed, of pairs under one attack whose verdicts are of as many images."""
    verdicts = zip(pairs["seed"], pairs["verdicts_base"], pairs["verdicts_variant"], strict=True)
    return {
        seed: mcnemar(base, variant)
        for seed, base, variant in verdicts
        if base is not None and variant is not None and len(base) == len(variant)
    }
