"""What M+ changes, in words: the cost that was counted, and what two tests say of the accuracy."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.statistics import LEVEL, MOST_SEEDS, CrossedMean, crossed_mean, ratio_interval
from analysis.timing import timed_pairs

CHEAPER = 1.05  # times fewer passes, in every pair; what is less nobody would switch for
SIDES = {"base": "base", "mplus": "M+"}
AGAINST = {("cheaper", "weaker"), ("cheaper in passes only", "weaker"), ("dearer", "stronger")}  # "but", not "and"


@dataclass(frozen=True)
class Verdict:
    """cost: "cheaper", "cheaper in passes only" (the seconds show no saving), "as costly", "dearer", "not always
    cheaper", or "" for no pair.

    robustness: "equivalent", "weaker", "stronger", "inconclusive"; "collapsed" where a run did, "untested" where
    nothing can be tested, "" for no pair. text: both, with what would settle it.
    """

    cost: str
    robustness: str
    text: str


def crossed(pairs: pd.DataFrame) -> CrossedMean | None:
    """M+ minus base over seeds and images, of the pairs under one attack; None where they cannot be tested.

    pairs: a row a seed, with `verdicts_base` and `verdicts_mplus`, one bool an image or None.
    """
    known = pairs[pairs["verdicts_base"].notna() & pairs["verdicts_mplus"].notna()]
    sides = [[np.asarray(verdicts) for verdicts in known[f"verdicts_{side}"]] for side in ("base", "mplus")]
    if len(known) < 2 or len({len(verdicts) for side in sides for verdicts in side}) > 1 or not len(sides[0][0]):
        return None
    base, mplus = (np.stack(side).astype(float) for side in sides)
    return crossed_mean(mplus - base)


def judge(pairs: pd.DataFrame, attack: str, margin: float) -> Verdict:
    """The verdict on pairs of runs that did not diverge: rows of a base and its M+ by seed and attack.

    attack: whose accuracy is judged; margin: points within which accuracies are equivalent.
    """
    once = pairs.drop_duplicates("seed")
    if not len(once):
        return Verdict("", "", "no pair")
    cost = _cost(once)
    collapsed = {name: int((once[f"status_{side}"] == "collapsed").sum()) for side, name in SIDES.items()}
    if any(collapsed.values()):
        seen = " and ".join(f"{name} in {count}" for name, count in collapsed.items() if count)
        return Verdict(cost, "collapsed", f"{cost}; collapsed: {seen} of {len(once)}")
    mean = crossed(pairs[pairs["attack"] == attack])
    if mean is None:
        why = "one seed is no test" if len(once) == 1 else f"no two seeds with {attack} on the same images"
        return Verdict(cost, "untested", f"{cost}; untested: {why}")
    found = robustness(mean, margin / 100)
    if found != "inconclusive":
        return Verdict(cost, found, f"{cost} {'but' if (cost, found) in AGAINST else 'and'} {found}")
    return Verdict(cost, found, f"{cost}; inconclusive with {mean.seeds} seeds: {_what_settles(mean, margin / 100)}")


def _what_settles(mean: CrossedMean, margin: float) -> str:
    if needed := mean.seeds_needed(margin):
        return f"{needed} would probably settle it"
    if mean.enough_images(margin):
        return f"over {MOST_SEEDS} would probably be needed"
    return f"more seeds alone would probably not settle it on {mean.images} images"


def _cost(once: pd.DataFrame) -> str:
    """Passes are counted, not sampled: every pair must agree, and no test is needed.

    Seconds are sampled: faster is what the interval of their ratio says, where more than one pair gives one. Disturbed
    pairs say nothing of it.
    """
    passes = once["passes_base"] / once["passes_mplus"]
    timed, disturbed = timed_pairs(once)
    faster, low, _ = ratio_interval(timed["seconds_base"] / timed["seconds_mplus"])
    if (passes >= CHEAPER).all():
        unshown = not disturbed and (faster < CHEAPER or low <= 1)
        return "cheaper in passes only" if unshown else "cheaper"
    if (passes <= 1 / CHEAPER).all():
        return "dearer"
    return "as costly" if passes.between(1 / CHEAPER, CHEAPER).all() else "not always cheaper"


def robustness(mean: CrossedMean, margin: float) -> str:
    """ "equivalent", "weaker", "stronger" or "inconclusive", of a mean and a margin that are fractions.

    Equivalence first: a difference that is certain and smaller than the margin is no reason to choose.
    """
    if mean.equivalence_p(margin) < LEVEL:
        return "equivalent"
    if mean.difference_p() < LEVEL:
        return "weaker" if mean.centre < 0 else "stronger"
    return "inconclusive"
