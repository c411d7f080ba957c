import io
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from synthetic import VARIANTS, made_up_suite, write_results

from analysis.results import collate
from reporting import plots
from reporting.plots import curves
from reporting.plots.label_placement import Label, place_labels
from reporting.plots.style import render, styles

pytestmark = pytest.mark.slow

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus")}
NAMES = {"accuracy_vs_seconds", "accuracy_vs_compute", "accuracy_vs_passes", "training"}
SVG = "{http://www.w3.org/2000/svg}"


def collation(root, suite, **details):
    return collate(suite, write_results(root, suite, **{"variants": FEW, **details}))


def stems(suite, found):
    return [stem for stem, _ in plots.figures(suite, found.runs, found.epochs)]


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, epochs=10, seeds=(0, 1))


@pytest.fixture(scope="module")
def found(tmp_path_factory, suite):
    return collation(tmp_path_factory.mktemp("results"), suite)


@pytest.fixture(scope="module")
def images(suite, found):
    return plots.draw(suite, found.runs, found.epochs)


def test_every_plot_is_an_svg_and_a_png(images):
    assert set(images) == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")}
    for name, image in images.items():
        assert image.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
        assert len(image) > 5_000


def test_whatever_may_be_drawn_is_listed_whether_the_suite_is_big_or_small(images, tmp_path):
    small = made_up_suite(FEW, epochs=10, seeds=(0, 1))
    assert set(images) <= set(plots.file_names(small))
    big = made_up_suite(FEW, epochs=600, seeds=(0, 1))
    made = collation(tmp_path, small)
    split = {f"{stem}.{kind}" for stem in stems(big, made) for kind in ("svg", "png")}
    assert {"training-pgd.svg", "training-fast.png"} <= split <= set(plots.file_names(big))
    assert set(plots.file_names(big)) == set(plots.file_names(small))  # so that neither leaves the other's behind


def test_the_same_records_give_the_same_bytes_and_no_date(suite, found, images):
    assert plots.draw(suite, found.runs, found.epochs) == images
    assert not any(b"dc:date" in image for image in images.values())


def test_matplotlib_is_left_as_it_was_and_its_settings_change_nothing(suite, found, images):
    with matplotlib.rc_context({"font.size": 17, "svg.hashsalt": "other"}):
        before = dict(matplotlib.rcParams)
        assert plots.draw(suite, found.runs, found.epochs) == images
        assert dict(matplotlib.rcParams) == before


def test_svgs_on_one_page_share_no_id_and_each_finds_what_it_refers_to(images):
    seen = set()
    for name in NAMES:
        svg = images[f"{name}.svg"].decode()
        ids = {element.get("id") for element in ElementTree.fromstring(svg).iter()} - {None}
        referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
        assert referred == ids
        assert ids
        assert not ids & seen
        seen |= ids


def test_an_svg_styles_nothing_but_itself_and_its_text_is_text_on_a_white_card(images):
    for name in NAMES:
        root = ElementTree.fromstring(images[f"{name}.svg"])
        assert not list(root.iter(f"{SVG}style"))
        assert "pgd+mplus" in {text.text for text in root.iter(f"{SVG}text")}
        assert "fill: #ffffff" in next(root.iter(f"{SVG}path")).get("style")


def coordinates(svg):
    """The corners of every path without curves, (N, 2) in points from the upper left, in the order of drawing."""
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        parts = re.findall(r"[A-Za-z]|-?(?:\d+\.?\d*|\.\d+)", path.get("d", ""))
        commands = {part for part in parts if part.isalpha()}
        if commands <= {"M", "L", "l", "z"}:
            numbers = np.array([float(part) for part in parts if not part.isalpha()]).reshape(-1, 2)
            yield np.cumsum(numbers, axis=0) if "l" in commands else numbers


def test_a_smaller_svg_draws_every_line_where_matplotlib_would(suite, found, images):
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(plots.RC)
        figures = dict(plots.figures(suite, found.runs, found.epochs))
        render(figures["training"], "training")  # takes the clips of gridlines away, as for `images`
        buffer = io.BytesIO()
        figures["training"].savefig(buffer, format="svg")
    plain, ours = list(coordinates(buffer.getvalue())), list(coordinates(images["training.svg"]))
    assert len(plain) == len(ours) > 100
    assert sum(len(line) for line in ours) > 500
    for expected, line in zip(plain, ours, strict=True):
        assert line == pytest.approx(expected, abs=0.06)
    assert len(images["training.svg"]) < 0.6 * len(buffer.getvalue())


def test_plots_of_several_data_sets_are_apart_and_named_after_them(tmp_path):
    few = {"fast": VARIANTS["fast"]}
    suite = made_up_suite(few, datasets=("digits", "cifar10"), seeds=(0,), epochs=3)
    found = collation(tmp_path, suite, variants=few)
    images = plots.draw(suite, found.runs, found.epochs)
    assert {"accuracy_vs_seconds-digits.svg", "accuracy_vs_seconds-cifar10.png"} <= set(images)
    assert images["training-digits.png"] != images["training-cifar10.png"]
    texts = plots.texts(suite, found.runs, found.epochs)
    assert {f"{stem}.svg" for stem in texts} == {name for name in images if name.endswith("svg")}
    assert "digits" not in texts["training-cifar10"].caption


def test_what_has_no_data_is_neither_drawn_nor_described(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW)
    for path in folder.rglob("evaluate/autoattack.json"):
        path.unlink()
    found = collate(suite, folder)
    assert stems(suite, found) == list(plots.texts(suite, found.runs, found.epochs)) == ["training"]
    for path in folder.rglob("epochs.csv"):
        path.write_text("")
    found = collate(suite, folder)
    assert stems(suite, found) == list(plots.texts(suite, found.runs, found.epochs)) == []


def test_every_plot_has_a_heading_a_caption_with_protocol_and_hardware_and_an_alternative_text(suite, found, images):
    texts = plots.texts(suite, found.runs, found.epochs)
    assert set(texts) == NAMES
    for text in texts.values():
        assert "digits" in text.title
        assert "10 epochs" in text.caption
        assert "2 seeds (0, 1)" in text.caption.replace("Trained", "trained")
        assert "AMD EPYC" in text.caption
        for label in FEW:
            assert label in text.alt


def test_the_method_is_the_colour_and_mplus_another_mark_and_line(suite):
    look = styles(suite)
    assert look["pgd-7"].colour == look["pgd+mplus"].colour != look["fast"].colour
    assert look["pgd-7"].marker != look["pgd+mplus"].marker
    assert look["pgd-7"].line != look["pgd+mplus"].line


def test_variants_of_one_method_never_look_alike():
    rules = ("constant", "every", "accuracy", "amata", "mplus", "mplus-2021")
    suite = made_up_suite({rule: ("deat", rule, *VARIANTS["deat-d"][2:]) for rule in rules})
    look = styles(suite).values()
    assert len({(style.marker, style.mplus) for style in look}) == len(rules)
    assert len({str(style.line) for style in look}) == len(rules)


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
    (box,) = place_labels(axes, [Label("fast+mplus", 0.3, 0.6, "black", "bold")], np.array([[0.3, 0.6]]))
    assert axes.texts[0].get_window_extent().get_points() == pytest.approx(box, abs=1)


def test_a_page_as_full_as_may_be_is_an_svg_of_less_than_150_kb(tmp_path):
    suite = made_up_suite(seeds=(0, 1, 2, 3), epochs=50, attacks=("clean",))
    found = collation(tmp_path, suite, variants=VARIANTS)
    noise = np.random.default_rng(0).normal(0, 0.01, len(found.epochs))
    found.epochs["validation_clean_accuracy"] += noise  # as real curves have it, of which nothing can be left out
    (page,) = curves.pages(suite)
    with matplotlib.rc_context(plots.RC):
        figure = curves.curves_figure(suite, page, found.runs, found.epochs)
        assert len(render(figure, "training")["svg"]) < 150_000
