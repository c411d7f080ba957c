import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.statistics import mcnemar, paired_interval, summarize, wilson_interval

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
