"""The few statistics the tables use: an interval for one accuracy, a spread over seeds, comparisons of pairs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
LEVEL = 0.05  # of each one-sided test of equivalence, and of the two-sided test of a difference
POWER = 0.80
MOST_SEEDS = 50  # more are not looked for
WITHOUT_END = 1e9  # seeds, so many that they add no error
ADDED = 2  # images, by crossed_mean


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


def gap_p(first: np.ndarray, second: np.ndarray, threshold: float) -> float:
    """p of a one-sided test that `first` is right on at most `threshold` more of all images than `second`.

    first, second: (N,) bool, verdicts on the same images in the same order; threshold: a fraction, at least 0.
    Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design": a score test, here with a continuity correction of half an image; McNemar's for a threshold of 0.
    """
    n, gained, lost = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    excess = gained - lost - n * threshold - 0.5
    if excess <= 0:
        return 1.0
    linear = 2 * n * threshold - (gained + lost) - (gained - lost) * threshold
    only_second = (math.sqrt(linear**2 + 8 * n * lost * threshold * (1 - threshold)) - linear) / (4 * n)
    return float(stats.norm.sf(excess / math.sqrt(n * (2 * only_second + threshold * (1 - threshold)))))


def share_p(count: int, images: int, share: float) -> float:
    """p of the exact one-sided binomial test that `count` of `images` come from a share of at most `share` of all."""
    return float(stats.binomtest(count, images, share, alternative="greater").pvalue) if images else 1.0


def ratio_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of ratios and its 95 % t interval on the log scale, where base/M+ and M+/base say the same.

    NaN for what cannot be had, as by `paired_interval`.
    """
    logs = np.log(np.asarray(ratios, dtype=float))
    low, high = paired_interval(logs)
    return math.exp(summarize(logs).mean), math.exp(low), math.exp(high)


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """p of two one-sided t tests (Schuirmann, 1987) that the mean of paired differences is not within ± margin.

    Below LEVEL exactly where the 90 % t interval lies inside the margin. NaN where `paired_interval` is.
    """
    if math.isnan(paired_interval(differences)[0]):
        return math.nan
    above = stats.ttest_1samp(differences, -margin, alternative="greater", nan_policy="omit").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less", nan_policy="omit").pvalue
    return float(max(above, below))


@dataclass(frozen=True)
class CrossedMean:
    """The mean of paired differences where both the seeds and the images are a sample; see `crossed_mean`.

    mean: as it is; centre: of the intervals, a little nearer to zero; of_seeds, of_images, of_both: components of
    variance (the last is what neither seed nor image explains alone).
    """

    mean: float
    centre: float
    seeds: int
    images: int
    of_seeds: float
    of_images: float
    of_both: float

    def error(self, seeds: np.ndarray | int | None = None) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Standard error of the mean over so many seeds (these, without a number), and its degrees of freedom."""
        s, n = self.seeds if seeds is None else seeds, self.images + ADDED
        square_of_seeds, square_of_images = n * self.of_seeds + self.of_both, s * self.of_images + self.of_both
        total = square_of_seeds + square_of_images - self.of_both
        spread = square_of_seeds**2 / (s - 1) + square_of_images**2 / (n - 1)
        spread += self.of_both**2 / ((s - 1) * (n - 1))
        return np.sqrt(total / (s * n)), total**2 / spread

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Student t interval of the mean, for other seeds and other images of their kind."""
        error, freedom = self.error()
        half = float(stats.t.ppf((1 + confidence) / 2, freedom) * error)
        return self.centre - half, self.centre + half

    def equivalence_p(self, margin: float) -> float:
        """As the function of that name: p of two one-sided t tests that the mean is not within ± margin."""
        error, freedom = self.error()
        above = stats.t.sf((self.centre + margin) / error, freedom)
        return float(max(above, stats.t.cdf((self.centre - margin) / error, freedom)))

    def difference_p(self) -> float:
        """Two-sided p of the t test that there is no difference."""
        error, freedom = self.error()
        return float(2 * stats.t.sf(abs(self.centre) / error, freedom))

    def seeds_needed(self, margin: float) -> int | None:
        """Fewest seeds, more than these, at which one of the two tests would probably decide; None above MOST_SEEDS.

        Probably: with a power of 80 %, if the difference and the components of variance are those found here, on as
        many images. Either test's power is that of a noncentral t; the larger counts.
        """
        seeds = np.arange(self.seeds + 1, MOST_SEEDS + 1)
        enough = seeds[self._power(seeds, margin) >= POWER]
        return int(enough[0]) if len(enough) else None

    def enough_images(self, margin: float) -> bool:
        """Whether seeds without end would probably decide; so few images may leave too wide an error by themselves."""
        return bool(self._power(np.array([WITHOUT_END]), margin)[0] >= POWER)

    def _power(self, seeds: np.ndarray, margin: float) -> np.ndarray:
        error, freedom = self.error(seeds)
        one_sided, two_sided = (stats.t.ppf(1 - level, freedom) for level in (LEVEL, LEVEL / 2))
        shift = self.centre / error
        different = stats.nct.sf(two_sided, freedom, abs(shift))
        above = stats.nct.sf(one_sided, freedom, shift + margin / error)
        below = stats.nct.sf(one_sided, freedom, margin / error - shift)
        return np.maximum(different, above + below - 1)


def crossed_mean(differences: np.ndarray) -> CrossedMean:
    """The mean of `differences` (seeds, images), in which a seed's row and an image's column are what they share.

    Both are random effects: the claim is for new seeds on new images, and its variance has a part of each (Cornfield &
    Tukey, 1956; Clark, 1973). Components that come out negative are zero; degrees of freedom are those of Satterthwaite
    (1946). Every seed is given one image more that only the first has right and one that only the second has (Bonett &
    Price, 2012), without which networks that agree on a few images would seem to agree on all.
    Raises ValueError for fewer than two seeds or no image.
    """
    seeds, images = differences.shape
    if seeds < 2 or images < 1:
        raise ValueError(f"{seeds} seeds and {images} images; it takes two seeds and an image to tell their spread")
    both = np.hstack([differences, np.ones((seeds, 1)), -np.ones((seeds, 1))])
    n, centre = images + ADDED, float(both.mean())
    of_seed, of_image = both.mean(axis=1), both.mean(axis=0)
    rest = float(((both - of_seed[:, None] - of_image + centre) ** 2).sum()) / ((seeds - 1) * (n - 1))
    return CrossedMean(
        mean=float(differences.mean()),
        centre=centre,
        seeds=seeds,
        images=images,
        of_seeds=max(0.0, float(of_seed.var(ddof=1)) - rest / n),
        of_images=max(0.0, float(of_image.var(ddof=1)) - rest / seeds),
        of_both=rest,
    )


class Change(NamedTuple):
    """A mean difference, its 95 % interval and the two-sided p that there is none; NaN but for the mean if unknown."""

    mean: float
    low: float
    high: float
    p_value: float


def changes(groups: Sequence[np.ndarray]) -> list[Change]:
    """For each group of paired differences (seeds, images), a change beyond the noise that the groups share.

    The images are the same on both sides, so that the seeds alone are a sample. A few seeds say little of their spread;
    that of all groups is pooled, each around its own mean, and t has the degrees of freedom of the pool. A group is
    given no less than its own variance, nor than what its discordant images alone make (McNemar), for a spread that
    happens to be small is no certainty. Nothing is known where no group has two seeds.
    """
    means = [group.mean(axis=1) for group in groups]
    freedom = sum(len(mean) - 1 for mean in means)
    if not freedom:
        return [Change(float(mean.mean()), math.nan, math.nan, math.nan) for mean in means]
    pooled = sum(float(((mean - mean.mean()) ** 2).sum()) for mean in means) / freedom
    found = []
    for group, mean in zip(groups, means, strict=True):
        own = float(mean.var(ddof=1)) if len(mean) > 1 else 0.0
        of_images = float((group**2).mean()) / group.shape[1]
        error, centre = math.sqrt(max(pooled, own, of_images) / len(mean)), float(mean.mean())
        if error == 0:  # nothing differs anywhere: no change, and no spread
            found.append(Change(0.0, math.nan, math.nan, 1.0))
            continue
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
        p_value = float(2 * stats.t.sf(abs(centre) / error, freedom))
        found.append(Change(centre, centre - half, centre + half, p_value))
    return found


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which hypotheses are rejected if the chance of any false rejection is to be `level`; a NaN is none, not rejected.

    Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    rejected = [False] * len(p_values)
    for rank, (p, i) in enumerate(known):
        if p * (len(known) - rank) > level:
            break
        rejected[i] = True
    return rejected


def pareto_front(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Which points, (N,) bool, no other point dominates: none is at least as cheap and as accurate, and better in one.

    cost, accuracy: (N,), lower and higher is better. Equal points are all on the front or all off it; a point with a
    NaN is not on it and dominates none.
    """
    cost, accuracy = np.asarray(cost, dtype=float), np.asarray(accuracy, dtype=float)
    cheaper, better = cost[:, None] < cost, accuracy[:, None] > accuracy  # [i, j]: i is so against j
    no_worse = (cost[:, None] <= cost) & (accuracy[:, None] >= accuracy)
    dominated = (no_worse & (cheaper | better)).any(axis=0)
    return ~dominated & ~np.isnan(cost) & ~np.isnan(accuracy)
