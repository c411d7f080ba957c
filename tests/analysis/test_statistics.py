import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from analysis.statistics import (
    CrossedMean,
    changes,
    crossed_mean,
    equivalence_p,
    gap_p,
    holm,
    mcnemar,
    paired_interval,
    pareto_front,
    ratio_interval,
    share_p,
    summarize,
    wilson_interval,
)

NUMBERS = st.floats(-100, 100).map(lambda number: round(number, 3))


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_an_accuracy_is_the_published_one(correct, images, low, high):
    assert wilson_interval(correct, images) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 10_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_the_interval_of_an_accuracy_holds_it_and_stays_a_fraction(counts):
    correct, images = counts
    low, high = wilson_interval(correct, images)
    assert 0 <= low <= correct / images <= high <= 1
    assert high > low


@pytest.mark.parametrize(("correct", "images"), [(0, 0), (3, 2)])
def test_an_impossible_count_is_refused(correct, images):
    with pytest.raises(ValueError, match=r"."):
        wilson_interval(correct, images)


@given(st.lists(NUMBERS, min_size=2, max_size=10))
def test_the_spread_is_the_sample_standard_deviation(values):
    summary = summarize(values)
    assert summary.n == len(values)
    assert summary.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert summary.std == pytest.approx(statistics.stdev(values), abs=1e-9)


def test_one_value_has_no_spread_and_none_has_no_mean():
    assert summarize([0.5])[::2] == (0.5, 1)
    assert math.isnan(summarize([0.5]).std)
    assert math.isnan(summarize([]).mean)
    assert summarize([]).n == 0


def test_what_is_missing_is_left_out_and_not_counted():
    assert summarize([1.0, math.nan, 3.0]) == (2.0, pytest.approx(math.sqrt(2)), 2)


@given(st.lists(NUMBERS, min_size=2, max_size=8).filter(lambda values: statistics.stdev(values) > 1e-3))
def test_the_interval_over_pairs_is_that_of_the_t_test(differences):
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert paired_interval(differences) == pytest.approx((expected.low, expected.high))


def test_the_interval_over_three_pairs_uses_the_tabulated_quantile():
    half = 4.303 / math.sqrt(3)  # Student's t, two degrees of freedom, 97.5 %
    assert paired_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), abs=1e-3)


@pytest.mark.parametrize("differences", [[], [1.0], [1.0, math.nan], [0.1 + 0.2, 0.3, 0.3]])
def test_too_few_or_equal_pairs_have_no_interval(differences):
    assert all(math.isnan(bound) for bound in paired_interval(differences))


def verdicts(both, only_first, only_second, neither):
    """Two networks' verdicts with so many images right for both, for one, and for none."""
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    # two binomial tails, by hand: 2 (1 + 10) / 2^10, 2 / 2^5, and what cannot be told apart
    [(1, 9, 22 / 1024), (9, 1, 22 / 1024), (0, 5, 2 / 32), (4, 4, 1.0), (0, 0, 1.0)],
)
def test_mcnemar_is_the_exact_test_on_the_images_that_one_network_alone_has_right(only_first, only_second, p_value):
    for both, neither in ((0, 0), (300, 51)):
        found = mcnemar(*verdicts(both, only_first, only_second, neither))
        assert found == (only_first, only_second, pytest.approx(p_value))


def test_mcnemar_depends_on_which_image_is_which():
    first, second = verdicts(300, 2, 14, 44)
    assert mcnemar(first, second).p_value < 0.01
    assert mcnemar(first, np.roll(second, 180)).p_value > 0.1


def test_verdicts_on_different_numbers_of_images_are_not_paired():
    with pytest.raises(ValueError, match="128 and on 360"):
        mcnemar(np.ones(128, bool), np.ones(360, bool))


def test_a_ratio_and_its_reciprocal_are_said_to_be_the_same():
    mean, low, high = ratio_interval([1.5, 2.0, 2.6])
    assert mean == pytest.approx((1.5 * 2.0 * 2.6) ** (1 / 3))
    assert ratio_interval([1 / 1.5, 1 / 2.0, 1 / 2.6]) == pytest.approx((1 / mean, 1 / high, 1 / low))
    logs = [math.log(ratio) for ratio in (1.5, 2.0, 2.6)]
    half = 4.303 * statistics.stdev(logs) / math.sqrt(3)
    assert (low, high) == pytest.approx((mean * math.exp(-half), mean * math.exp(half)), rel=1e-3)


def test_a_ratio_without_a_spread_has_no_interval():
    assert ratio_interval([4.0, 4.0])[0] == pytest.approx(4)
    assert np.isnan(ratio_interval([4.0, 4.0])[1:]).all()
    assert np.isnan(ratio_interval([])).all()


@given(
    st.lists(NUMBERS, min_size=2, max_size=8).filter(lambda values: statistics.stdev(values) > 1e-3),
    st.floats(0.1, 100),
)
def test_two_one_sided_tests_agree_with_the_90_percent_interval(differences, margin):
    found = stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    inside = min(found.low + margin, margin - found.high)
    if abs(inside) > 1e-6:
        assert (equivalence_p(differences, margin) < 0.05) == (inside > 0)


def test_equal_differences_are_no_proof_of_equivalence():
    assert math.isnan(equivalence_p([0.0, 0.0, 0.0], 1))


def simulated(rng, seeds, images, of_seeds, of_images, gain=0.0):
    """M+ minus base, (seeds, images) in {-1, 0, 1}, of networks that share their images' difficulty."""
    difficulty, by_image = rng.normal(0, 2, images), rng.normal(0, of_images, images)
    by_seed = rng.normal(0, of_seeds, (seeds, 1))
    base = difficulty + rng.normal(size=(seeds, images)) < 1.5
    return (difficulty + by_image + by_seed - gain + rng.normal(size=(seeds, images)) < 1.5).astype(float) - base


def test_the_components_of_variance_are_those_of_the_table_of_a_two_way_analysis():
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = simulated(rng, 4, 50, 0.5, 0.5)
        mean = crossed_mean(found)
        padded = [[*row, 1.0, -1.0] for row in found]
        grand = statistics.fmean(value for row in padded for value in row)
        rows = [statistics.fmean(row) for row in padded]
        columns = [statistics.fmean(column) for column in zip(*padded, strict=True)]
        rest = sum((padded[s][i] - rows[s] - columns[i] + grand) ** 2 for s in range(4) for i in range(52)) / (3 * 51)
        of_seeds = sum((row - grand) ** 2 for row in rows) * 52 / 3
        of_images = sum((column - grand) ** 2 for column in columns) * 4 / 51
        assert mean.of_both == pytest.approx(rest)
        assert mean.of_seeds == pytest.approx(max(0, of_seeds - rest) / 52)
        assert mean.of_images == pytest.approx(max(0, of_images - rest) / 4)
        total = max(of_seeds, rest) + max(of_images, rest) - rest
        assert mean.error()[0] == pytest.approx(math.sqrt(total / (4 * 52)))


@pytest.mark.parametrize(("seeds", "of_seeds", "of_images"), [(2, 0.2, 0), (3, 0, 0.6), (3, 0.4, 0.6), (10, 0.1, 1.0)])
def test_the_interval_over_seeds_and_images_covers_what_new_seeds_and_new_images_would_show(seeds, of_seeds, of_images):
    rng = np.random.default_rng(seeds)
    truth = stats.norm.cdf(1.5 / math.sqrt(5 + of_seeds**2 + of_images**2)) - stats.norm.cdf(1.5 / math.sqrt(5))
    covered = 0
    for _ in range(400):
        low, high = crossed_mean(simulated(rng, seeds, 128, of_seeds, of_images)).interval()
        covered += low <= truth <= high
    assert covered / 400 > 0.93


def test_networks_that_agree_on_a_few_images_are_not_said_to_agree_on_all():
    few, many = (crossed_mean(np.zeros((2, images))) for images in (128, 5000))
    assert few.equivalence_p(0.01) > 0.05
    assert many.equivalence_p(0.01) < 0.05
    assert few.interval()[0] < -0.01
    assert few.difference_p() == 1


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.05, 0.2]))
def test_equivalence_over_seeds_and_images_is_a_90_percent_interval_within_the_margin(seed, margin):
    mean = crossed_mean(simulated(np.random.default_rng(seed), 3, 100, 0.3, 0.3, gain=seed % 5 / 10))
    low, high = mean.interval(0.90)
    assert (mean.equivalence_p(margin) < 0.05) == (-margin < low and high < margin)
    low, high = mean.interval(0.95)
    assert (mean.difference_p() < 0.05) == (low > 0 or high < 0)


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_the_seeds_needed_to_show_a_difference_are_the_tabulated_sample_sizes_of_the_t_test(effect, seeds):
    # Cohen (1988) and G*Power: two-sided, 5 %, power 80 %
    spread = 0.02
    mean = CrossedMean(effect * spread, effect * spread, 3, 1000, of_seeds=spread**2, of_images=0, of_both=0)
    assert mean.seeds_needed(margin=1e-9) == seeds


def test_the_seeds_needed_for_equivalence_give_it_in_about_four_of_five_simulated_suites():
    rng, spread, margin = np.random.default_rng(0), 0.012, 0.01
    needed = CrossedMean(0, 0, 3, 1000, of_seeds=spread**2, of_images=0, of_both=0).seeds_needed(margin)
    shown = [equivalence_p(rng.normal(0, spread, needed), margin) < 0.05 for _ in range(1000)]
    assert 0.75 < np.mean(shown) < 0.88


def test_too_few_images_are_told_from_too_few_seeds():
    of_images = CrossedMean(0, 0, 3, 128, of_seeds=0, of_images=0.1, of_both=0.01)
    of_seeds = CrossedMean(0, 0, 3, 10**6, of_seeds=0.05**2, of_images=0.1, of_both=0.01)
    assert of_images.seeds_needed(0.01) is of_seeds.seeds_needed(0.01) is None
    assert not of_images.enough_images(0.01)
    assert of_seeds.enough_images(0.01)


@pytest.mark.parametrize("shape", [(1, 100), (0, 100), (3, 0)])
def test_one_seed_or_no_image_has_no_spread_over_both(shape):
    with pytest.raises(ValueError, match="two seeds"):
        crossed_mean(np.zeros(shape))


def test_a_change_is_that_of_the_t_test_where_nothing_else_is_known():
    group = np.repeat([[1.0], [0.0], [-1.0], [1.0]], 50, axis=1)  # seeds differ by more than their images say
    (change,) = changes([group])
    expected = stats.ttest_1samp(group.mean(axis=1), 0)
    assert change.p_value == pytest.approx(expected.pvalue)
    assert change[1:3] == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_a_spread_that_happens_to_be_nothing_makes_no_change():
    group = np.zeros((3, 128))
    group[:, 0] = 1  # one image more, in each of three seeds
    (change,) = changes([group])
    assert change.mean == 1 / 128
    assert change.low < 0
    assert change.p_value > 0.05
    assert changes([np.zeros((3, 128))])[0].p_value == 1
    assert math.isnan(changes([group[:1]])[0].p_value)


def test_a_group_that_spreads_more_than_the_others_is_not_judged_by_them():
    wild = np.repeat([[1.0], [0.0], [0.0]], 128, axis=1)
    calm = [np.zeros((3, 128)) for _ in range(20)]
    error = 3**-0.5 * statistics.stdev([1, 0, 0])
    assert changes([wild, *calm])[0].p_value == pytest.approx(2 * stats.t.sf(1 / 3 / error, 42))
    assert changes([wild, *calm])[1].p_value == 1


def test_holm_rejects_as_in_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.01, math.nan, 0.04, 0.03, 0.005]) == [True, False, False, False, True]
    assert holm([]) == []


@given(st.lists(st.floats(0, 0.2), max_size=8), st.floats(0.01, 0.2))
def test_holm_rejects_what_the_closed_test_of_bonferroni_rejects(p_values, level):
    n = len(p_values)
    subsets = [[i for i in range(n) if mask >> i & 1] for mask in range(1, 2**n)]
    slack = [abs(min(p_values[i] for i in s) * len(s) - level) > 1e-12 for s in subsets]
    if all(slack):
        refuted = [min(p_values[i] for i in s) * len(s) <= level for s in subsets]
        expected = [all(r for s, r in zip(subsets, refuted, strict=True) if i in s) for i in range(n)]
        assert holm(p_values, level) == expected


POINTS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.1, 0.2, 0.3, math.nan])), max_size=12)


@given(POINTS)
def test_the_front_holds_what_nothing_dominates(points):
    cost, accuracy = (np.array([point[i] for point in points], dtype=float) for i in (0, 1))
    expected = [
        not math.isnan(a) and not any(d <= c and b >= a and (d < c or b > a) for d, b in points) for c, a in points
    ]
    assert pareto_front(cost, accuracy).tolist() == expected


# -- one attack against another on the same images ---------------------------------------------------------------------


@given(*[st.integers(0, 60)] * 2, st.integers(1, 60), st.sampled_from([0.005, 0.05, 0.1, 0.3]))
def test_a_gap_is_tested_by_the_error_it_has_if_it_is_as_large_as_allowed(gained, lost, same, threshold):
    """The one nuisance, the share of images that only the second has right, by maximising the likelihood itself."""
    n = gained + lost + same

    def loss(q):
        shares = [q + threshold, q, 1 - 2 * q - threshold]
        return -sum(count * math.log(max(s, 1e-300)) for count, s in zip([gained, lost, same], shares, strict=True))

    found = optimize.minimize_scalar(loss, bounds=(0, (1 - threshold) / 2), method="bounded", options={"xatol": 1e-12})
    excess = gained - lost - n * threshold - 0.5
    error = math.sqrt(n * (2 * found.x + threshold * (1 - threshold)))
    expected = stats.norm.sf(excess / error) if excess > 0 else 1.0
    assert gap_p(*verdicts(same, gained, lost, 0), threshold) == pytest.approx(expected, rel=1e-3)


@given(st.integers(0, 40), st.integers(0, 40))
def test_without_an_allowance_a_gap_is_tested_as_by_mcnemar_with_his_correction(gained, lost):
    excess = gained - lost - 0.5
    expected = stats.norm.sf(excess / math.sqrt(gained + lost)) if excess > 0 else 1.0
    assert gap_p(*verdicts(7, gained, lost, 5), 0.0) == pytest.approx(expected)


@pytest.mark.parametrize("n", [5, 10, 20, 40])
@pytest.mark.parametrize("threshold", [0.005, 0.1])
@pytest.mark.parametrize("lost_share", [0.0, 0.05, 0.2])
def test_a_gap_as_large_as_allowed_is_seldom_called_larger(n, threshold, lost_share):
    """All outcomes, by their probability: at a level of 5 %, a few percent more or less where images are few."""
    shares = [lost_share + threshold, lost_share, 1 - 2 * lost_share - threshold]
    wrong = sum(
        stats.multinomial.pmf([gained, lost, n - gained - lost], n, shares)
        for gained in range(n + 1)
        for lost in range(n + 1 - gained)
        if gap_p(*verdicts(n - gained - lost, gained, lost, 0), threshold) < 0.05
    )
    assert wrong < 0.07


def test_a_share_is_tested_against_the_exact_binomial_tail():
    assert share_p(3, 10, 0.1) == pytest.approx(1 - stats.binom.cdf(2, 10, 0.1))
    assert share_p(0, 10, 0.1) == 1.0
    assert share_p(0, 0, 0.1) == 1.0
