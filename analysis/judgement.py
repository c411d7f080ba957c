"""The verdict on a variant against its base: the cost that was counted, and what two tests say of the accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.statistics import LEVEL, CrossedMean, crossed_mean, ratio_interval
from analysis.timing import timed_pairs

Cost = Literal[
    "cheaper",
    "cheaper in compute only",
    "cheaper in compute but slower",
    "as costly",
    "dearer",
    "dearer in compute but faster",
    "not always cheaper",
    "",
]
Robustness = Literal["equivalent", "weaker", "stronger", "inconclusive", "collapsed", "untested", ""]
CHEAPER = 1.05  # times less compute, in every pair; what is less nobody would switch for
SIDES = ("base", "variant")
DISAGREEING = ("cheaper in compute but slower", "dearer in compute but faster")  # compute and seconds, in direction


@dataclass(frozen=True)
class Verdict:
    """What is to be said of pairs of runs that did not diverge.

    cost: what compute says in every pair, and whether the seconds bear it out; "" for no pair. robustness: what the two
    tests say, "collapsed" where a run did, "untested" where nothing can be tested, "" for no pair. collapsed: how many
    runs of each side did; mean: what was tested, if anything was.
    """

    cost: Cost
    robustness: Robustness
    pairs: int
    collapsed: Mapping[str, int]
    mean: CrossedMean | None


def crossed(pairs: pd.DataFrame) -> CrossedMean | None:
    """The variant minus its base over seeds and images, of the pairs under one attack; None where it cannot be tested.

    pairs: a row a seed, with `verdicts_base` and `verdicts_variant`, one bool an image or None.
    """
    known = pairs[pairs["verdicts_base"].notna() & pairs["verdicts_variant"].notna()]
    sides = [[np.asarray(verdicts) for verdicts in known[f"verdicts_{side}"]] for side in SIDES]
    if len(known) < 2 or len({len(verdicts) for side in sides for verdicts in side}) > 1 or not len(sides[0][0]):
        return None
    base, variant = (np.stack(side).astype(float) for side in sides)
    return crossed_mean(variant - base)


def judge(pairs: pd.DataFrame, attack: str, margin: float) -> Verdict:
    """The verdict on pairs of runs that did not diverge: rows of a base and its variant by seed and attack.

    attack: whose accuracy is judged; margin: points within which accuracies are equivalent.
    """
    once = pairs.drop_duplicates("seed")
    if not len(once):
        return Verdict("", "", 0, {}, None)
    cost = judge_cost(once)
    collapsed = {side: int((once[f"status_{side}"] == "collapsed").sum()) for side in SIDES}
    if any(collapsed.values()):
        return Verdict(cost, "collapsed", len(once), collapsed, None)
    mean = crossed(pairs[pairs["attack"] == attack])
    found: Robustness = "untested" if mean is None else robustness(mean, margin / 100)
    return Verdict(cost, found, len(once), collapsed, mean)


def judge_cost(once: pd.DataFrame) -> Cost:
    """What the pairs say of cost, a row a seed.

    Compute is counted, not sampled: every pair must agree, and no test is needed. Seconds are sampled: faster or slower
    is what the interval of their ratio says, where more than one pair gives one. Disturbed pairs say nothing of it.
    """
    compute = once["compute_base"] / once["compute_variant"]
    timed, disturbed = timed_pairs(once)
    faster, low, high = ratio_interval((timed["seconds_base"] / timed["seconds_variant"]).tolist())
    known = not disturbed and not np.isnan(faster)
    if (compute >= CHEAPER).all():
        if known and (high < 1 if high == high else faster <= 1 / CHEAPER):
            return "cheaper in compute but slower"
        return "cheaper in compute only" if known and (faster < CHEAPER or low <= 1) else "cheaper"
    if (compute <= 1 / CHEAPER).all():
        is_faster = known and (low > 1 if low == low else faster >= CHEAPER)
        return "dearer in compute but faster" if is_faster else "dearer"
    return "as costly" if compute.between(1 / CHEAPER, CHEAPER).all() else "not always cheaper"


def robustness(mean: CrossedMean, margin: float) -> Robustness:
    """ "equivalent", "weaker", "stronger" or "inconclusive", of a mean and a margin that are fractions.

    Equivalence first: a difference that is certain and smaller than the margin is no reason to choose.
    """
    if mean.equivalence_p(margin) < LEVEL:
        return "equivalent"
    if mean.difference_p() < LEVEL:
        return "weaker" if mean.centre < 0 else "stronger"
    return "inconclusive"
