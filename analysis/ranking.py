"""Which variants of a table are the best of a column: the highest mean, and what cannot be told from it."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics import LEVEL, crossed_mean, mcnemar


def best_variants(runs: pd.DataFrame) -> set[tuple[str, str, str]]:
    """The (data set, attack, variant) whose accuracy is the best, or cannot be told from it by a 95 % interval.

    runs: the frame of `analysis.results`. Where fewer than two variants can be compared, none is the best. Every
    variant is held against the highest mean alone, without a correction for their number.
    """
    best: set[tuple[str, str, str]] = set()
    doubtful = (runs["status"] != "ok") | (runs["suspect"] != "")
    doubted = set(runs[doubtful].groupby(["dataset", "variant"]).groups)
    known = runs[runs["accuracy"].notna()]
    for (dataset, attack), column in known.groupby(["dataset", "attack"], sort=False):
        verdicts: dict[str, dict[int, NDArray[np.bool_]]] = {
            str(variant): dict(zip(rows["seed"], rows["verdicts"], strict=True))
            for variant, rows in column.groupby("variant", sort=False)
            if (dataset, variant) not in doubted
        }
        if len(verdicts) > 1:
            first = max(verdicts, key=lambda variant: np.mean([v.mean() for v in verdicts[variant].values()]))
            best |= {
                (str(dataset), str(attack), variant)
                for variant, found in verdicts.items()
                if variant == first or not is_worse(found, verdicts[first])
            }
    return best


def is_worse(verdicts: dict[int, NDArray[np.bool_]], best: dict[int, NDArray[np.bool_]]) -> bool:
    """Whether a variant is told from the best one: their verdicts, (images,) bool by seed, on the seeds they share.

    True as well where nothing can be paired: what was never compared is not called equal.
    """
    seeds = [seed for seed in verdicts if seed in best]
    if len({len(each[seed]) for each in (verdicts, best) for seed in seeds}) != 1:
        return True
    if len(seeds) == 1:
        test = mcnemar(best[seeds[0]], verdicts[seeds[0]])
        return test.p_value < LEVEL and test.only_first > test.only_second
    differences = np.array([best[seed].astype(float) - verdicts[seed] for seed in seeds])
    return crossed_mean(differences).interval()[0] > 0
