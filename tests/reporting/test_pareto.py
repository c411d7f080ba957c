import numpy as np
import pytest
from synthetic import HARDWARE, VARIANTS, made_up_suite, robust_images, write_results, write_verdicts

from analysis.pareto import standings
from analysis.results import collate
from reporting.plots import pareto

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus", "free-8")}
PASSES = "passes"


def rows_of(suite, root, **details):
    runs = collate(suite, write_results(root, suite, **{"variants": FEW, **details})).runs
    return runs[runs["attack"] == "autoattack"]


def marks(axes, order):
    """(x, y, diameter) of the marks of a panel: `order` is pareto.MEANS or pareto.SEEDS."""
    found = [line for line in axes.lines if line.get_zorder() == order]
    return sorted((*line.get_xydata()[0], line.get_markersize()) for line in found)


def crosses(axes):
    (line,) = [line for line in axes.lines if line.get_marker() == "x"]
    return line.get_xydata()


def labels(axes):
    return {text.get_text(): text for text in axes.texts if text.get_text()}


def arrows(axes):
    found = [text for text in axes.texts if text.arrow_patch and text.arrowprops["arrowstyle"] == "-|>"]
    return [(text.get_position(), tuple(text.xy)) for text in found]


def legend(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()


def sentence(text, start):
    return text.partition(start)[2].partition("). ")[0] + ")"


def staircase(axes):
    return [line.get_xydata() for line in axes.lines if line.get_gid() == "front"]


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, epochs=10)


@pytest.fixture(scope="module")
def rows(tmp_path_factory, suite):
    return rows_of(suite, tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def panel(suite, rows):
    return pareto.pareto_figure(suite, rows, PASSES).axes[0]


@pytest.fixture(scope="module")
def hurt(tmp_path_factory, suite):
    return rows_of(suite, tmp_path_factory.mktemp("hurt"), collapsed=[("fast", 2)], diverged=[("pgd+mplus", 1)])


def means(rows):
    healthy = rows[rows["status"] == "ok"]
    return healthy.assign(percent=100 * healthy["accuracy"]).groupby("variant")[[PASSES, "percent"]].mean()


def test_a_variant_is_on_the_front_where_no_other_mean_is_cheaper_and_more_accurate(suite, rows):
    stand, expected = standings(suite, rows, PASSES), means(rows)
    for label, place in stand.iterrows():
        others = expected.drop(label)
        better = (others[PASSES] <= place["cost"]) & (others["percent"] >= place["percent"])
        assert place["front"] == (not better.any())
    assert stand["front"].any()
    assert not stand["front"].all()


def test_a_variant_with_a_failed_or_suspect_run_is_not_on_the_front_and_keeps_none_off_it(suite, rows, hurt):
    stand = standings(suite, hurt, PASSES)
    assert stand.loc[["pgd+mplus", "fast"], "front"].tolist() == [False, False]
    assert stand.loc["fast", ["runs", "collapsed", "diverged"]].tolist() == [3, 1, 0]
    assert stand.loc["pgd+mplus", ["runs", "collapsed", "diverged"]].tolist() == [3, 0, 1]
    assert stand.loc["pgd-7", "front"]
    doubtful = rows.assign(suspect=rows["variant"].map(lambda label: "too good" if label == "fast" else ""))
    without = standings(suite, rows[rows["variant"] != "fast"], PASSES)
    assert standings(suite, doubtful, PASSES)["front"].drop("fast").equals(without["front"])


def test_means_and_seeds_are_where_their_cost_and_accuracy_are(panel, rows):
    expected = means(rows)
    drawn = np.array([mark[:2] for mark in marks(panel, pareto.MEANS)])
    assert drawn == pytest.approx(expected.sort_values([PASSES, "percent"]).to_numpy(float))
    seeds = sorted(set(zip(rows[PASSES], 100 * rows["accuracy"], strict=True)))
    assert np.array([mark[:2] for mark in marks(panel, pareto.SEEDS)]) == pytest.approx(np.array(seeds, dtype=float))


def test_the_staircase_goes_through_the_front_and_to_the_end_of_the_axis(panel, suite, rows):
    stand = standings(suite, rows, PASSES)
    corners = stand.loc[stand["front"], ["cost", "percent"]].sort_values("cost").to_numpy(float)
    (drawn,) = staircase(panel)
    assert drawn[:-1] == pytest.approx(corners)
    assert drawn[-1] == pytest.approx([panel.get_xlim()[1], corners[-1, 1]])


def test_names_on_the_front_are_bold_and_no_variant_is_without_a_name(panel, suite, rows):
    stand = standings(suite, rows, PASSES)
    assert {name: text.get_weight() == "bold" for name, text in labels(panel).items()} == stand["front"].to_dict()


def test_an_arrow_leads_from_each_bases_mean_to_its_mplus(panel, rows):
    expected = means(rows)
    for (start, end), base in zip(arrows(panel), ("pgd-7", "fast"), strict=True):
        assert start == pytest.approx(tuple(expected.loc[base]))
        assert end == pytest.approx(tuple(expected.loc[base.partition("-")[0] + "+mplus"]))


def test_variants_of_equal_cost_and_accuracy_are_both_seen(tmp_path):
    twins = {label: ("pgd", "constant", None, 8, 0.9, 0.5, 7) for label in ("first", "second", "third")}
    suite = made_up_suite(twins, epochs=4)
    folder = write_results(tmp_path, suite, variants=twins)
    for place in folder.rglob("evaluate"):
        write_verdicts(place, "autoattack", robust_images(128, 60))
    axes = pareto.pareto_figure(suite, collate(suite, folder).runs, PASSES).axes[0]
    drawn = marks(axes, pareto.MEANS)
    assert len({mark[:2] for mark in drawn}) == 1
    sizes = [mark[2] for mark in drawn]
    assert min(np.diff(sizes)) >= 4  # points: each is a ring around the smaller one
    order = [line.get_markersize() for line in axes.lines if line.get_zorder() == pareto.MEANS]
    assert order == sorted(order, reverse=True)  # the widest is behind
    seeds = marks(axes, pareto.SEEDS)  # one larger dot stands for each variant's three equal seeds
    assert len(seeds) == 3
    assert seeds[0][2] > pareto.SEED
    assert set(labels(axes)) == set(twins)


def test_a_single_seed_is_drawn_once(tmp_path):
    suite = made_up_suite(FEW, seeds=(0,), epochs=4)
    figure = pareto.pareto_figure(suite, rows_of(suite, tmp_path), PASSES)
    assert len(marks(figure.axes[0], pareto.MEANS)) == 5
    assert marks(figure.axes[0], pareto.SEEDS) == []
    assert "a run" in legend(figure)[0]
    assert not any("seed" in entry for entry in legend(figure)[0])


def test_the_cost_axis_is_logarithmic_only_beyond_a_factor_of_ten(tmp_path, panel):
    assert panel.get_xscale() == "linear"
    wide = {**FEW, "pgd-30": ("pgd", "constant", None, 31, 0.9, 0.52, 30)}
    suite = made_up_suite(wide, seeds=(0,), epochs=4)
    axes = pareto.pareto_figure(suite, rows_of(suite, tmp_path, variants=wide), PASSES).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_major_formatter()(50) == "50"


def test_the_attack_shown_is_the_last_where_there_is_no_autoattack(tmp_path, suite, rows):
    assert "AutoAttack (128 test images)" in pareto.pareto_figure(suite, rows, PASSES).get_suptitle()
    other = made_up_suite(FEW, seeds=(0,), attacks=("clean", "pgd-20"), epochs=4)
    runs = collate(other, write_results(tmp_path, other, variants=FEW)).runs
    assert "pgd-20 (360 test images)" in pareto.pareto_figure(other, runs, PASSES).get_suptitle()
    assert pareto.pareto_text(other, runs, PASSES).alt.startswith("Accuracy under pgd-20 on 360 test images")


def test_seconds_of_different_hardware_are_in_panels_of_their_own(tmp_path, suite):
    rows = rows_of(suite, tmp_path, hardware={1: "NVIDIA H200"})
    panels = pareto.pareto_figure(suite, rows, "seconds").axes
    assert [HARDWARE in axes.get_xlabel() for axes in panels] == [True, False]
    assert [len(marks(axes, pareto.SEEDS)) for axes in panels] == [10, 0]
    assert len(pareto.pareto_figure(suite, rows, PASSES).axes) == 1
    alt = pareto.pareto_text(suite, rows, "seconds").alt
    assert alt.count("On the Pareto front") == 2
    assert "On NVIDIA H200." in alt


def test_a_collapsed_run_is_crossed_and_written_with_its_accuracy_where_it_is_off_the_axis(suite, hurt):
    figure = pareto.pareto_figure(suite, hurt, "seconds")
    axes = figure.axes[0]
    assert len(crosses(axes)) == 1
    assert {"↓ fast 0.0 %", "fast (1 of 3 collapsed)"} <= set(labels(axes))
    assert axes.get_ylim()[0] > 20  # the others are not squeezed into a corner
    assert "collapsed, in no mean" in legend(figure)[0][-1]


def test_a_diverged_run_is_named_and_has_no_mark(suite, hurt):
    figure = pareto.pareto_figure(suite, hurt, "seconds")
    assert "pgd+mplus seed 1" in legend(figure)[1]
    assert "pgd+mplus (1 of 3 diverged)" in labels(figure.axes[0])
    assert len(marks(figure.axes[0], pareto.SEEDS)) == 5 * 3 - 1


def test_nothing_is_said_of_collapse_or_divergence_where_there_was_none(suite, rows):
    entries, note = legend(pareto.pareto_figure(suite, rows, PASSES))
    assert not any("collapsed" in entry for entry in entries)
    assert note == ""
    assert "Failed" not in pareto.pareto_text(suite, rows, PASSES).alt


def test_where_every_run_collapsed_there_are_crosses_and_no_front(tmp_path, suite):
    rows = rows_of(suite, tmp_path, collapsed=[(label, seed) for label in FEW for seed in range(3)])
    figure = pareto.pareto_figure(suite, rows, PASSES)
    axes = figure.axes[0]
    assert len(crosses(axes)) == 15
    assert staircase(axes) == marks(axes, pareto.MEANS) == []
    assert not any("front" in entry or "mean of" in entry for entry in legend(figure)[0])
    assert axes.get_ylim()[1] - axes.get_ylim()[0] >= 2  # not an axis of hundredths of a point around 0
    assert "Pareto front:" not in pareto.pareto_text(suite, rows, PASSES).alt


def test_the_alternative_text_says_who_is_on_the_front_what_mplus_moves_and_what_failed(suite, hurt):
    stand = standings(suite, hurt, PASSES)
    alt = pareto.pareto_text(suite, hurt, PASSES).alt
    on, off = sentence(alt, "On the Pareto front: "), sentence(alt, "Not on it: ")
    for label, place in stand.iterrows():
        said = f"{label} ({place['percent']:.1f} % at "
        assert (said in on) == place["front"]
        assert (said in off) != place["front"]
    ratio = stand.loc["pgd-7", "cost"] / stand.loc["pgd+mplus", "cost"]
    assert f"pgd-7 to pgd+mplus {ratio:.1f} times cheaper and " in alt
    assert "fast 1 of 3 collapsed" in alt
    assert "pgd+mplus 1 of 3 diverged" in alt
