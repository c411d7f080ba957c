import numpy as np
import pandas as pd
import pytest
from synthetic import VARIANTS, made_up_suite, write_results

from analysis.results import collate
from reporting.plots import curves

pytestmark = pytest.mark.slow

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus")}
PGD = "validation\nPGD (%)"
SHOWN = ["steps", "step size\n(eps)", "gradient\nmagnitude", "validation\nclean (%)", PGD, "learning\nrate"]


class Page:
    """A drawn page and what it was drawn from; `row(name)` are its panels from left to right."""

    def __init__(self, suite, root, **details):
        self.resolved = suite
        self.found = collate(suite, write_results(root, suite, **{"variants": FEW, **details}))
        self.page = curves.pages(suite)[0]
        self.figure = curves.curves_figure(suite, self.page, self.found.runs, self.found.epochs)
        self.text = curves.curves_text(suite, self.page, self.found.runs, self.found.epochs)

    @property
    def names(self):
        return [axes.get_ylabel() for axes in self.figure.axes if axes.get_ylabel()]

    def row(self, name):
        columns = len(self.figure.axes) // len(self.names)
        first = self.names.index(name) * columns
        return self.figure.axes[first : first + columns]

    def trace(self, label, seed):
        epochs = self.found.epochs
        return epochs[(epochs["variant"] == label) & (epochs["seed"] == seed)].set_index("epoch")

    @property
    def key(self):
        (legend,) = self.figure.legends
        return [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def events(axes, marker):
    return sorted(tuple(point) for line in axes.lines if line.get_marker() == marker for point in line.get_xydata())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    return Page(made_up_suite(FEW, epochs=10), tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def hurt(tmp_path_factory):
    suite = made_up_suite(FEW, epochs=24)
    return Page(suite, tmp_path_factory.mktemp("hurt"), collapsed=[("fast", 2)], diverged=[("pgd+mplus", 1)])


def test_rows_are_what_was_logged_and_columns_are_methods_on_shared_axes(healthy):
    assert healthy.names == SHOWN
    assert [axes.get_legend().get_title().get_text() for axes in healthy.row("steps")] == ["pgd", "fast"]
    for name in SHOWN:
        assert len({axes.get_ylim() for axes in healthy.row(name)}) == 1
    assert len({axes.get_xlim() for axes in healthy.figure.axes}) == 1


def test_seeds_are_thin_and_the_thick_line_is_the_mean_of_those_that_are_ok(hurt):
    panel = hurt.row(PGD)[1]  # the method fast: without M+, then with it
    thin, thick = lines(panel, "_seed"), lines(panel, "_mean")
    assert len(thin) == 6
    assert len(thick) == 2
    assert max(line.get_linewidth() for line in thin) < min(line.get_linewidth() for line in thick)
    expected = [100 * hurt.trace("fast", seed)["validation_pgd_accuracy"].to_numpy() for seed in (0, 1, 2)]
    for line, values in zip(thin, expected, strict=False):
        assert line.get_ydata() == pytest.approx(values)
    assert thick[0].get_ydata() == pytest.approx(np.mean(expected[:2], axis=0))  # seed 2 collapsed


def test_seeds_that_do_not_differ_are_drawn_once(healthy):
    panel = healthy.row("learning\nrate")[0]
    assert lines(panel, "_seed") == []
    for line in lines(panel, "_mean"):
        assert line.get_ydata() == pytest.approx(0.05)


def test_steps_stay_level_throughout_an_epoch_and_are_the_logged_ones_in_its_middle(healthy):
    (panel, _) = healthy.row("steps")
    for line, seed in zip(lines(panel, "_seed"), (0, 1, 2), strict=True):  # those of pgd+mplus; pgd-7's are equal
        logged = healthy.trace("pgd+mplus", seed)["steps"]
        x, y = line.get_data()
        assert set(y) == set(logged)
        assert (np.diff(x) == 0)[np.diff(y) != 0].all()  # it rises upright
        middle = np.interp(logged.index, x, y)
        assert middle == pytest.approx(logged.to_numpy())


def test_step_sizes_are_in_units_of_the_radius(healthy):
    for axes in healthy.row("step size\n(eps)"):
        for line in lines(axes, "_mean"):
            assert line.get_ydata() == pytest.approx(0.25)  # 0.025 of a ball of 0.1


def test_triangles_are_where_mplus_adds_steps_and_nowhere_else(healthy):
    (panel, _) = healthy.row("steps")
    expected = []
    for seed in (0, 1, 2):
        steps = healthy.trace("pgd+mplus", seed)["steps"].to_numpy()
        expected += [(epoch, steps[epoch]) for epoch in range(1, len(steps)) if steps[epoch] > steps[epoch - 1]]
    assert len(expected) > 3
    assert events(panel, "^") == sorted(expected)
    assert [epoch for epoch, _ in events(healthy.row("gradient\nmagnitude")[0], "^")] == [
        e for e, _ in sorted(expected)
    ]


def test_a_rule_that_is_not_mplus_has_no_triangles(tmp_path):
    few = {"deat-d": VARIANTS["deat-d"]}
    page = Page(made_up_suite(few, epochs=10, seeds=(0,)), tmp_path, variants=few)
    assert len(set(page.trace("deat-d", 0)["steps"])) > 1
    assert not any(events(axes, "^") for axes in page.figure.axes)
    assert "M+ adds steps" not in page.key[0]
    assert "gradient\nmagnitude" not in page.names  # nothing took it


def test_a_cross_is_where_a_run_collapsed_and_a_bar_where_one_diverged(hurt):
    collapse = 100 * hurt.trace("fast", 2)["validation_pgd_accuracy"]
    assert events(hurt.row(PGD)[1], "x") == [(16, pytest.approx(collapse[16]))]
    assert events(hurt.row(PGD)[0], "x") == []
    assert [epoch for epoch, _ in events(hurt.row(PGD)[0], "|")] == [hurt.trace("pgd+mplus", 1).index[-1]]
    assert {"collapsed", "diverged"} <= set(hurt.key[0])
    assert "pgd+mplus seed 1 (epoch 8)" in hurt.key[1]


def test_nothing_is_said_of_collapse_or_divergence_where_there_was_none(healthy):
    assert not {"collapsed", "diverged"} & set(healthy.key[0])
    assert healthy.key[1] == ""
    assert healthy.text.alt.endswith("No run collapsed or diverged.")


def test_the_evaluated_epoch_of_each_run_is_on_its_curve(healthy):
    runs = healthy.found.runs.drop_duplicates(["variant", "seed"])
    expected = [
        (
            run.evaluated_epoch,
            100 * healthy.trace(run.variant, run.seed)["validation_pgd_accuracy"][run.evaluated_epoch],
        )
        for run in runs.itertuples()
    ]
    drawn = [point for axes in healthy.row(PGD) for point in events(axes, "o")]
    assert np.array(sorted(drawn)) == pytest.approx(np.array(sorted(expected), dtype=float))


def test_a_column_without_magnitude_says_so_where_others_have_it(tmp_path):
    few = {label: VARIANTS[label] for label in ("pgd-7", "fast", "fast+mplus")}
    page = Page(made_up_suite(few, epochs=4, seeds=(0,)), tmp_path, variants=few)
    texts = [[text.get_text() for text in axes.texts] for axes in page.row("gradient\nmagnitude")]
    assert texts == [["not measured"], []]


def test_variants_too_many_for_a_page_get_a_page_a_method_and_a_column_each():
    small, big = made_up_suite(epochs=20), made_up_suite(epochs=200)
    assert [page.name for page in curves.pages(small)] == ["training"]
    pages = curves.pages(big)
    assert [page.name for page in pages] == [f"training-{method}" for method in ("pgd", "free", "fast", "yopo", "deat")]
    assert pages[0].columns == {"pgd-7": ["pgd-7"], "pgd+mplus": ["pgd+mplus"]}
    shown = [label for page in pages for labels in page.columns.values() for label in labels]
    assert shown == list(VARIANTS)
    assert {page.name for page in [*pages, *curves.pages(small)]} == set(curves.page_names(small))


def test_where_no_run_is_ok_there_are_seeds_and_no_mean(tmp_path):
    suite = made_up_suite(FEW, epochs=12, seeds=(0,))
    page = Page(suite, tmp_path, collapsed=[(label, 0) for label in FEW])
    for axes in page.figure.axes:
        assert not lines(axes, "_mean")
    assert len(lines(page.row(PGD)[0], "_seed")) == 2
    assert "pgd-7: no run is ok." in page.text.alt
    assert "Collapsed: pgd-7 seed 0 (epoch 8)" in page.text.alt


def test_the_alternative_text_has_each_variants_steps_and_final_accuracy(hurt):
    for label in FEW:
        seeds = [0, 1] if label == "fast" else [0, 2] if label == "pgd+mplus" else [0, 1, 2]
        traces = pd.concat([hurt.trace(label, seed) for seed in seeds])
        final = 100 * traces.loc[23, "validation_pgd_accuracy"].mean()
        assert f"validation PGD accuracy {final:.1f} % in the end" in hurt.text.alt.partition(f"{label}: ")[2]
    assert "pgd+mplus: steps 1 to 7" in hurt.text.alt
    assert "pgd-7: steps 7, " in hurt.text.alt
    assert "Collapsed: fast seed 2 (epoch 16); diverged: pgd+mplus seed 1 (epoch 8)." in hurt.text.alt
