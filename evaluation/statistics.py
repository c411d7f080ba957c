"""The few statistics the tables use: an interval for one accuracy, a spread over seeds, comparisons of pairs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Summary(NamedTuple):
    """Mean and sample standard deviation of `n` values; `mean` is NaN for n = 0 and `std` is NaN for n < 2."""

    mean: float
    std: float
    n: int


class Discordance(NamedTuple):
    """Images that only the first of two networks has right, that only the second has, and McNemar's p-value."""

    only_first: int
    only_second: int
    p_value: float


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """95 % Wilson score interval, as fractions in [0, 1], of an accuracy of `correct` out of `images` (at least 1).

    Wilson (1927), "Probable inference, the law of succession, and statistical inference"; computed by SciPy.
    Raises ValueError when `images` is 0 or `correct` lies outside [0, images].
    """
    interval = stats.binomtest(correct, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def summarize(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation (n - 1 in the denominator) and count of the values that are not NaN."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    n = len(known)
    return Summary(float(known.mean()) if n else math.nan, float(known.std(ddof=1)) if n > 1 else math.nan, n)


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % Student t interval of the mean of paired differences, in their unit; NaNs are left out.

    (NaN, NaN) for fewer than two pairs and for equal ones, as accuracies counted over a few images often are: their
    spread is then unknown, not zero.
    """
    mean, std, n = summarize(differences)
    if n < 2 or math.isclose(std, 0, abs_tol=1e-9):
        return math.nan, math.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * std / math.sqrt(n)
    return float(mean - half), float(mean + half)


def mcnemar(first: np.ndarray, second: np.ndarray) -> Discordance:
    """Exact two-sided McNemar test of two networks' verdicts (N,) bool on the same images, in the same order.

    McNemar (1947), "Note on the sampling error of the difference between correlated proportions": of the images that
    one network alone has right, either should have half. It says whether these two networks differ on such images, not
    whether two ways of training do: p-values of several seeds stay apart, for the seeds share their images.
    Raises ValueError where the counts of images differ.
    """
    if len(first) != len(second):
        raise ValueError(f"verdicts on {len(first)} and on {len(second)} images cannot be paired")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p_value = float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return Discordance(only_first, only_second, p_value)
