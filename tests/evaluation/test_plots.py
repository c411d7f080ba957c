import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from synthetic import HARDWARE, VARIANTS, resolved_suite, write_results

from evaluation import plots
from evaluation.collate import collate
from evaluation.labels import Label, place_labels

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus")}
NAMES = {*plots.COSTS, *plots.EPOCHS}


def collation(root, resolved, **details):
    return collate(resolved, write_results(root, resolved, **{"variants": FEW, **details}))


def drawn(root, resolved, **details):
    found = collation(root, resolved, **details)
    return dict(plots.figures(resolved, found.runs, found.epochs))


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def key(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()


def offsets(axes, kind):
    """Positions of the round and open marks ("dots") or of the crosses of a panel."""
    found = [
        c for c in axes.collections if (len(c.get_facecolor()) == 0 or c.get_sizes()[0] > 50) == (kind == "crosses")
    ]
    return [tuple(point) for collection in found for point in collection.get_offsets()]


@pytest.fixture(scope="module")
def resolved():
    return resolved_suite(FEW, epochs=10, seeds=(0, 1))


@pytest.fixture(scope="module")
def figures(tmp_path_factory, resolved):
    return drawn(tmp_path_factory.mktemp("results"), resolved)


@pytest.fixture(scope="module")
def hurt(tmp_path_factory):
    """The plots of a suite with a collapsed and a diverged run."""
    resolved = resolved_suite(FEW, epochs=24)
    return drawn(tmp_path_factory.mktemp("hurt"), resolved, collapsed=[("fast", 2)], diverged=[("pgd+mplus", 1)])


def test_every_plot_is_an_svg_and_a_png(tmp_path, resolved):
    found = collation(tmp_path, resolved)
    images = plots.draw(resolved, found.runs, found.epochs)
    assert (
        set(images)
        == set(plots.file_names(resolved))
        == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")}
    )
    for name, image in images.items():
        assert image.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
        assert len(image) > 5_000


def test_the_same_records_give_the_same_bytes_and_no_date(tmp_path, resolved):
    found = collation(tmp_path, resolved)
    first, second = (plots.draw(resolved, found.runs, found.epochs) for _ in range(2))
    assert first == second
    assert not any(b"dc:date" in image for image in first.values())


def test_matplotlib_is_left_as_it_was_and_its_settings_change_nothing(tmp_path, resolved):
    found = collation(tmp_path, resolved)
    expected = plots.draw(resolved, found.runs, found.epochs)
    with matplotlib.rc_context({"font.size": 17, "svg.hashsalt": "other"}):
        before = dict(matplotlib.rcParams)
        assert plots.draw(resolved, found.runs, found.epochs) == expected
        assert dict(matplotlib.rcParams) == before


def test_plots_of_several_data_sets_are_apart_and_named_after_them(tmp_path):
    few = {"fast": VARIANTS["fast"]}
    resolved = resolved_suite(few, datasets=("digits", "cifar10"), seeds=(0,), epochs=3)
    found = collation(tmp_path, resolved, variants=few)
    images = plots.draw(resolved, found.runs, found.epochs)
    assert {"accuracy_vs_seconds-digits.svg", "accuracy_vs_seconds-cifar10.png"} <= set(images)
    assert images["steps_per_epoch-digits.png"] != images["steps_per_epoch-cifar10.png"]


def test_what_has_no_data_is_not_drawn(tmp_path):
    few = {"pgd-7": VARIANTS["pgd-7"], "fast": VARIANTS["fast"]}
    resolved = resolved_suite(few, seeds=(0,), epochs=3)
    assert set(drawn(tmp_path / "a", resolved, variants=few)) == NAMES - {"magnitude_per_epoch"}
    folder = write_results(tmp_path / "b", resolved, variants=few)
    for path in folder.rglob("evaluate/autoattack.json"):
        path.unlink()
    found = collate(resolved, folder)
    assert set(dict(plots.figures(resolved, found.runs, found.epochs))) == {
        "steps_per_epoch",
        "validation_pgd_per_epoch",
    }


def test_there_is_one_mark_a_seed_where_its_cost_and_accuracy_are(tmp_path, resolved):
    found = collation(tmp_path, resolved)
    figure = dict(plots.figures(resolved, found.runs, found.epochs))["accuracy_vs_passes"]
    rows = found.runs[found.runs["attack"] == "autoattack"]
    expected = sorted(zip(rows["data_passes"], 100 * rows["accuracy"], strict=True))
    assert np.array(sorted(offsets(figure.axes[0], "dots"))) == pytest.approx(np.array(expected, dtype=float))


def test_the_method_is_the_colour_and_mplus_an_open_mark_of_another_shape(resolved):
    look = plots.styles(resolved)
    assert look["pgd-7"].colour == look["pgd+mplus"].colour != look["fast"].colour
    assert look["pgd-7"].marker != look["pgd+mplus"].marker
    assert look["pgd-7"].line != look["pgd+mplus"].line
    assert to_rgba(look["pgd-7"].face) == to_rgba(look["pgd-7"].colour)
    assert to_rgba(look["pgd+mplus"].face) == to_rgba("white")


def test_variants_of_one_method_never_look_alike():
    rules = ("constant", "every", "accuracy", "amata", "mplus", "mplus-2021")
    resolved = resolved_suite({rule: ("deat", rule, *VARIANTS["deat-d"][2:]) for rule in rules})
    look = plots.styles(resolved).values()
    assert len({(style.marker, style.face) for style in look}) == len(rules)
    assert len({str(style.line) for style in look}) == len(rules)


def test_every_variant_is_labelled_and_an_arrow_leads_from_each_bases_mean_to_its_mplus(tmp_path, resolved):
    found = collation(tmp_path, resolved)
    figure = dict(plots.figures(resolved, found.runs, found.epochs))["accuracy_vs_passes"]
    assert sorted(texts(figure)) == sorted(FEW)
    rows = found.runs[found.runs["attack"] == "autoattack"]
    means = rows.assign(percent=100 * rows["accuracy"]).groupby("variant")[["data_passes", "percent"]].mean()
    arrows = [text for text in figure.axes[0].texts if text.arrow_patch and text.arrowprops["arrowstyle"] == "-|>"]
    assert len(arrows) == 2
    for arrow, base in zip(arrows, ("pgd-7", "fast"), strict=True):
        assert arrow.get_position() == pytest.approx(tuple(means.loc[base]))
        assert tuple(arrow.xy) == pytest.approx(tuple(means.loc[base.partition("-")[0] + "+mplus"]))


def test_the_cost_axis_is_logarithmic_only_beyond_a_factor_of_ten(tmp_path, figures):
    assert figures["accuracy_vs_passes"].axes[0].get_xscale() == "linear"
    wide = {**FEW, "pgd-30": ("pgd", "constant", None, 31, 0.9, 0.52, 30)}
    axes = drawn(tmp_path, resolved_suite(wide, seeds=(0,), epochs=4), variants=wide)["accuracy_vs_passes"].axes[0]
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_major_formatter()(50) == "50"


def test_the_title_names_the_attack_and_it_is_the_last_where_there_is_no_autoattack(tmp_path, figures):
    assert "autoattack (128 test images)" in figures["accuracy_vs_passes"].get_suptitle()
    resolved = resolved_suite(FEW, seeds=(0,), attacks=("clean", "pgd-20"), epochs=4)
    assert "pgd-20 (360 test images)" in drawn(tmp_path, resolved)["accuracy_vs_passes"].get_suptitle()


def test_seconds_of_different_hardware_are_in_panels_of_their_own(tmp_path, resolved):
    made = drawn(tmp_path, resolved, hardware={1: "NVIDIA H200"})
    assert [HARDWARE in a.get_xlabel() for a in made["accuracy_vs_seconds"].axes] == [True, False]
    assert [len(offsets(a, "dots")) for a in made["accuracy_vs_seconds"].axes] == [4, 4]
    assert len(made["accuracy_vs_passes"].axes) == 1


def test_a_collapsed_run_is_crossed_and_written_with_its_accuracy_where_it_is_off_the_axis(hurt):
    axes = hurt["accuracy_vs_seconds"].axes[0]
    assert len(offsets(axes, "crosses")) == 1
    assert "↓ fast 0.0 %" in texts(hurt["accuracy_vs_seconds"])
    assert axes.get_ylim()[0] > 20  # the others are not squeezed into a corner
    assert "collapsed" in key(hurt["accuracy_vs_seconds"])[0][-1]


def test_a_diverged_run_is_named_and_has_no_mark(hurt):
    assert "pgd+mplus seed 1" in key(hurt["accuracy_vs_seconds"])[1]
    assert len(offsets(hurt["accuracy_vs_seconds"].axes[0], "dots")) == 4 * 3 - 1


def test_nothing_is_said_of_collapse_where_there_was_none(figures):
    for figure in figures.values():
        entries, note = key(figure)
        assert not any("collapsed," in entry or entry == "collapsed" for entry in entries)
        assert note == ""


def test_epoch_plots_have_a_panel_for_each_method_on_the_same_axes(figures):
    for name in plots.EPOCHS:
        panels = [axes for axes in figures[name].axes if axes.axison]
        assert [axes.get_title() for axes in panels] == ["pgd", "fast"]
        assert len({axes.get_ylim() for axes in panels}) == len({axes.get_xlim() for axes in panels}) == 1
    labels = [text.get_text() for text in figures["magnitude_per_epoch"].axes[0].get_legend().get_texts()]
    assert labels == ["pgd+mplus"]


def test_steps_are_drawn_as_steps_with_whole_numbers_beside_them(figures):
    axes = figures["steps_per_epoch"].axes[0]
    assert {line.get_drawstyle() for line in axes.lines} == {"steps-mid"}
    assert all(tick == int(tick) for tick in axes.get_yticks())
    constant = next(line for line in axes.lines if line.get_label() == "pgd-7")
    assert set(constant.get_ydata()) == {7}


def test_the_thick_line_is_the_mean_of_the_seeds_that_did_not_collapse(hurt):
    lines = hurt["validation_pgd_per_epoch"].axes[1].lines
    thick = next(line for line in lines if line.get_label() == "fast")
    seeds = [line for line in lines if line.get_linewidth() < 1 and line.get_linestyle() == "-"]
    assert len(seeds) == 3
    healthy = [line.get_ydata() for line in seeds if line.get_ydata()[-1] > 10]
    assert len(healthy) == 2
    assert thick.get_ydata() == pytest.approx(np.mean(healthy, axis=0))
    (cross,) = [line for line in lines if line.get_marker() == "x"]
    assert cross.get_xdata()[0] == 16


POINTS = st.tuples(st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=25)
@given(st.lists(POINTS, min_size=1, max_size=14))
def test_labels_cover_neither_each_other_nor_leave_the_frame(points):
    figure = Figure(figsize=(8, 6))
    axes = figure.subplots()
    axes.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
    labels = [Label(f"variant+{number}", *point, "black") for number, point in enumerate(points)]
    boxes = place_labels(axes, labels, np.array(points))
    assert len(boxes) == len(labels)
    frame = axes.bbox.get_points()
    assert (boxes[:, 0] >= frame[0]).all()
    assert (boxes[:, 1] <= frame[1]).all()
    for number, box in enumerate(boxes):
        for other in boxes[:number]:
            assert not ((box[0] < other[1]).all() and (box[1] > other[0]).all())


def test_a_label_lies_where_it_was_placed():
    figure = Figure(figsize=(8, 6))
    axes = figure.subplots()
    (box,) = place_labels(axes, [Label("fast+mplus", 0.3, 0.6, "black")], np.array([[0.3, 0.6]]))
    assert axes.texts[0].get_window_extent().get_points() == pytest.approx(box, abs=1)
