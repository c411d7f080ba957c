import math
import statistics

import matplotlib
import pandas as pd
import pytest
from scipy import stats
from synthetic import VARIANTS, made_up_suite, write_results

from analysis import columns
from analysis.published import matches, read_published
from analysis.results import collate
from experiment.suite import ROOT, Suite
from reporting import literature
from reporting.plots import literature as plot
from reporting.plots.style import RC

EPS = 8 / 255
MORE = {
    "pgd+mplus-2021": ("pgd", "mplus-2021", "pgd-7", 5, 0.91, 0.50, 4),
    "deat+mplus-2021": ("deat", "mplus-2021", "deat-d", 6, 0.89, 0.48, 6),
    "n-fgsm": ("n_fgsm", "constant", None, 2, 0.80, 0.50, 1),
}


def suite_with(*variants, **changes):
    """The suite cifar10 with these variants (a label's own where it is one of them), suite."""
    content = {
        "suite": "cifar10",
        "datasets": ["cifar10"],
        "network": {"name": "preact_resnet18"},
        "threat": {"eps": "8/255"},
        "training": {"epochs": 50, "batch_size": 128, "lr": 0.05},
        "evaluation": {"attacks": ["clean", "pgd-100", "margin-20", "autoattack"]},
        "seeds": [0, 1, 2],
        "variants": [{"label": "pgd-7", "method": "pgd"}],
    }
    return Suite.from_mapping(content | ({"variants": list(variants)} if variants else {}) | changes)


def runs_of(folder, suite, **how):
    looks = {v.label: (VARIANTS | MORE)[v.label] for v in suite.variants}
    return collate(suite, write_results(folder, suite, variants=looks, **how)).runs


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    """configs/cifar10.yaml with made-up records: one run of fast collapsed, one of yopo-5-3 diverged."""
    suite = Suite.load(ROOT / "configs" / "cifar10.yaml")
    how = {"collapsed": [("fast", 2)], "diverged": [("yopo-5-3", 1)]}
    return suite, runs_of(tmp_path_factory.mktemp("results"), suite, **how)


@pytest.fixture(scope="module")
def table(cifar10):
    return literature.literature(*cifar10)


def line(table, variant, quantity, **also):
    rows = table.data
    for column, value in {"variant": variant, "quantity": quantity, "counted": "all", **also}.items():
        rows = rows[rows[column] == value]
    (row,) = rows.to_dict("records")
    return row


def test_a_line_has_our_seeds_the_published_number_and_the_t_interval_of_the_difference(cifar10, table):
    _, runs = cifar10
    ours = 100 * runs.loc[(runs["variant"] == "pgd-7") & (runs["attack"] == "pgd-100"), "accuracy"]
    found = line(table, "pgd-7", "pgd-100")
    assert (found["published"], found["source"]) == (49.48, "DEAT table 1")
    assert found["ours_mean"] == pytest.approx(statistics.fmean(ours))
    assert found["ours_std"] == pytest.approx(statistics.stdev(ours))
    assert found["difference"] == pytest.approx(statistics.fmean(ours) - 49.48)
    expected = stats.ttest_1samp(ours, 49.48).confidence_interval(0.95)
    assert found["difference_low"] == pytest.approx(expected.low - 49.48)
    assert found["difference_high"] == pytest.approx(expected.high - 49.48)


@pytest.mark.fault("clock")
def test_minutes_that_were_taken_beside_other_work_are_in_no_mean_or_marked(cifar10):
    suite, runs = cifar10
    seconds = runs[runs["variant"] == "free-8"].drop_duplicates("seed").set_index("seed")["seconds"]
    for busy in ([seconds.index[0]], list(seconds.index)):
        hurt = (runs["variant"] == "free-8") & runs["seed"].isin(busy)
        made = literature.literature(suite, runs.assign(disturbed=runs["disturbed"].mask(hurt, "it had no core")))
        minutes, passes = (line(made, "free-8", cost) for cost in ("minutes", "passes"))
        counted = seconds if len(busy) == len(seconds) else seconds.drop(busy)
        assert (minutes["n"], passes["n"]) == (len(counted), len(seconds))
        assert minutes["ours_mean"] == pytest.approx(counted.mean() / 60)
        assert ("†" in minutes["differs"]) == (len(busy) == len(seconds))
        assert any("Timed beside other work" in note for note in made.notes)


def test_costs_stand_beside_each_other_and_no_difference_is_taken(cifar10, table):
    _, runs = cifar10
    minutes, passes = (line(table, "free-8", cost) for cost in ("minutes", "passes"))
    trained = runs[runs["variant"] == "free-8"].drop_duplicates("seed")
    assert (minutes["published"], passes["published"]) == (162.4, 400)
    assert minutes["ours_mean"] == pytest.approx(trained["seconds"].mean() / 60)
    assert passes["ours_mean"] == pytest.approx(trained["passes"].mean())
    assert math.isnan(minutes["difference"])
    assert math.isnan(passes["difference"])
    assert "hardware not stated" in minutes["differs"]
    shown = table.shown[table.shown["quantity"].isin(["minutes", "passes"])]
    assert set(shown["difference"]) == {"–"}
    assert not any("speed" in column for column in table.data.columns)


def test_an_attack_of_other_steps_is_another_attack(tmp_path):
    suite = suite_with(evaluation={"attacks": ["clean", "pgd-20", "margin-20"]})
    found = literature.literature(suite, runs_of(tmp_path, suite)).data
    assert set(found["quantity"]) == {"clean", "margin-20", "passes", "minutes"}


@pytest.mark.parametrize(
    "changes",
    [
        {"threat": {"eps": "4/255"}},
        {"network": {"name": "wide_resnet34_10"}},
        {"network": {"name": "preact_resnet18", "activation": "silu"}},
        {"network": {"name": "preact_resnet18", "width": 16}},
        {"datasets": ["cifar100"]},
        {"evaluation": {"attacks": ["pgd-20"]}},
    ],
)
def test_nothing_is_compared_with_another_ball_network_activation_data_set_or_attack(tmp_path, changes):
    suite = suite_with(**changes)
    found = literature.literature(suite, runs_of(tmp_path, suite))
    assert len(found.data) == 0
    assert list(found.data.columns) == columns.names(columns.LITERATURE)
    assert found.files()["literature.csv"].startswith("dataset,variant,")
    assert found.caption.startswith(literature.NONE)
    assert plot.literature_figure(suite, runs_of(tmp_path, suite)) is None
    assert plot.literature_text(suite, runs_of(tmp_path, suite)) is None


def test_each_published_network_has_lines_of_its_own_where_several_are_known(tmp_path, monkeypatch):
    suite = suite_with()
    rows, sources = read_published()
    other = rows[(rows["method"] == "pgd-7") & (rows["source"] == "DEAT table 1")].assign(
        source="RobustBench Zhang2019You"
    )
    monkeypatch.setattr(literature, "read_published", lambda: (pd.concat([rows, other]), sources))
    found = literature.literature(suite, runs_of(tmp_path, suite)).data
    assert list(found.loc[found["quantity"] == "autoattack", "source"]) == ["DEAT table 1", "RobustBench Zhang2019You"]


def test_settings_that_differ_are_named_and_those_that_agree_are_not(tmp_path):
    free = {"label": "free-8", "method": "free"}
    training = {"epochs": 15, "batch_size": 128, "lr": 0.1, "schedule": {"name": "cyclic"}}
    attacks = [
        "clean",
        {"name": "pgd-100", "restarts": 3, "step_size": "0.5 eps"},
        {"name": "autoattack", "images": 128},
    ]
    suite = suite_with(free, training=training, evaluation={"attacks": attacks})
    found = literature.literature(suite, runs_of(tmp_path, suite))
    said = line(found, "free-8", "pgd-100")["differs"]
    for phrase in (
        "50 epochs, ours 15",
        "lr 0.05, ours 0.1",
        "schedule multistep (milestones [0.5, 0.8], factor 0.1), ours cyclic",
        "checkpoint: best margin PGD-10 accuracy on 2560 test images",
        "perturbation reset for each minibatch",
        "our pgd-100 has 3 restarts",
        "our pgd-100 has steps of 0.5 eps",
    ):
        assert phrase in said
    assert "batch size" not in said
    assert "our autoattack on 128 of 10000 test images" in line(found, "free-8", "autoattack")["differs"]

    alike = suite_with(free | {"options": {"carry": False}})
    said = line(literature.literature(alike, runs_of(tmp_path / "alike", alike)), "free-8", "autoattack")["differs"]
    assert "epochs" not in said
    assert "schedule" not in said
    assert "reset" not in said


@pytest.mark.parametrize(
    ("method", "steps", "options", "phrase"),
    [
        ("pgd", {"step_size": "1 eps"}, {}, "steps of 1 eps, there 0.25 eps"),
        ("pgd", {"rule": "amata", "total": "10 eps"}, {}, "steps of 10 eps in all, there 2.5 eps"),
        ("pgd", {"rule": "mplus-2021", "gamma": 2.0}, {}, "gamma 2, there 1.01"),
        ("free", {"step_size": "0.1 eps"}, {}, "steps of 0.1 eps, there 1 eps"),
        ("fast", {"step_size": "0.1 eps"}, {}, "steps of 0.1 eps, there 1.25 eps"),
        ("n_fgsm", {}, {"noise": 0.5}, "noise 0.5 eps, there 2 eps"),
        ("n_fgsm", {"step_size": "0.5 eps"}, {}, "steps of 0.5 eps, there 1 eps"),
        ("yopo", {"step_size": "1 eps"}, {}, "steps of 1 eps, there 0.25 eps"),
        ("deat", {"rule": "mplus-2021", "step_size": "0.25 eps"}, {}, "steps of 0.25 eps, there 1.25 eps"),
        ("deat", {"rule": "mplus", "gamma": 3.0}, {}, "gamma 3, there 1.01"),
    ],
)
def test_a_parameter_that_is_not_the_published_one_is_named_with_both_values(
    tmp_path, monkeypatch, method, steps, options, phrase
):
    rows, sources = read_published()
    of_n_fgsm = rows["method"] == "n-fgsm"  # as if it were of a network that we have
    rows.loc[of_n_fgsm, "architecture"] = "preact_resnet18"
    monkeypatch.setattr(literature, "read_published", lambda: (rows, sources))
    variant = {"label": "ours", "method": method, "steps": steps, "options": options}
    suite = suite_with(variant)
    looks = {"ours": (method, suite.variants[0].steps.rule, *VARIANTS["pgd-7"][2:])}
    runs = collate(suite, write_results(tmp_path, suite, variants=looks)).runs
    found = literature.literature(suite, runs).data
    assert len(found)
    assert all(phrase in said.split("; ") for said in found["differs"])


def test_the_default_variants_of_the_cifar10_suite_have_the_published_parameters(table):
    assert not table.data["differs"].str.contains(", there ").any()


def test_the_parameters_of_a_published_run_are_those_of_its_note_where_it_has_one(tmp_path):
    def said(step_size, folder):
        variant = {"label": "pgd+mplus-2021", "method": "pgd", "steps": {"rule": "mplus-2021", "step_size": step_size}}
        suite = suite_with(variant, network={"name": "vgg16_bn"})
        return " ".join(literature.literature(suite, runs_of(tmp_path / folder, suite)).data["differs"])

    assert "steps of 0.25 eps, there 1.25 eps" in said("0.25 eps", "default")
    assert "steps of" not in said("1.25 eps", "as noted")


def test_what_a_source_does_not_state_is_said_to_be_not_stated(table):
    said = line(table, "fast", "autoattack")["differs"]
    for phrase in ("epochs not stated", "schedule not stated", "checkpoint rule not stated"):
        assert phrase in said


def test_every_letter_of_a_line_is_explained_below_the_table(table):
    letters = {letter for cell in table.shown["differs"] for letter in cell.split(", ")}
    assert letters == {note.partition(": ")[0] for note in table.notes if note[1:2] == ":"}
    for row, cell in zip(table.data["differs"], table.shown["differs"], strict=True):
        assert len(row.split("; ")) == len(cell.split(", "))


def test_variants_without_a_counterpart_are_named(table):
    assert (
        "Without a published counterpart on cifar10: pgd+mplus, free+mplus, fast+mplus, yopo+mplus, deat-d."
        in table.notes
    )


def test_collapsed_runs_are_in_one_line_and_left_out_of_another_and_diverged_ones_in_none(cifar10, table):
    _, runs = cifar10
    values = 100 * runs[(runs["variant"] == "fast") & (runs["attack"] == "autoattack")].set_index("seed")["accuracy"]
    assert line(table, "fast", "autoattack")["ours_mean"] == pytest.approx(values.mean())
    healthy = line(table, "fast", "autoattack", counted="not collapsed")
    assert healthy["ours_mean"] == pytest.approx(values[[0, 1]].mean())
    assert line(table, "yopo-5-3", "autoattack")["n"] == 2
    assert set(table.data.loc[table.data["counted"] == "not collapsed", "variant"]) == {"fast"}
    text = " ".join(table.notes)
    assert "collapsed, left out of the lines that say so: fast seed 2" in text
    assert "diverged, in no mean: yopo-5-3 seed 1" in text


def test_the_quick_suite_has_an_empty_table_that_says_so(tmp_path):
    suite = made_up_suite()
    runs = collate(suite, write_results(tmp_path, suite)).runs
    found = literature.literature(suite, runs)
    assert len(found.shown) == 0
    assert found.files()["literature.md"] == f"{literature.NONE}\n"
    assert found.files()["literature.tex"] == f"{literature.NONE}\n"


def test_a_table_that_the_network_keeps_empty_says_what_of_it(tmp_path):
    suite = suite_with(network={"name": "preact_resnet18", "width": 16, "stride": 2})
    found = literature.literature(suite, runs_of(tmp_path, suite))
    own = "Published numbers are of preact_resnet18 itself; this suite's has width 16, stride 2."
    assert found.caption == f"{literature.NONE} {own}"


def test_without_published_numbers_there_is_no_match(tmp_path, cifar10):
    assert list(matches(*cifar10, *read_published(tmp_path / "published.csv"))) == []


def figure_of(suite, runs):
    with matplotlib.rc_context(RC):
        return plot.literature_figure(suite, runs)


def test_the_plot_has_a_filled_mark_for_each_mean_of_ours_and_a_hollow_one_for_each_published_number(cifar10, table):
    axes = figure_of(*cifar10).axes[0]
    marks = {gid: [mark for mark in axes.lines if mark.get_gid() == gid] for gid in ("ours", "published")}
    shown = table.data[table.data["quantity"] == "autoattack"]
    healthy = shown[~((shown["variant"] == "fast") & (shown["counted"] == "all"))]
    assert [m.get_xdata()[0] for m in marks["ours"]] == pytest.approx(list(healthy["ours_mean"]))
    assert [m.get_xdata()[0] for m in marks["published"]] == list(healthy["published"])
    assert all(mark.get_markerfacecolor() != "white" for mark in marks["ours"])
    assert {(m.get_markerfacecolor(), m.get_markeredgecolor()) for m in marks["published"]} == {("white", plot.GREY)}
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[:2] == ["pgd-7", "DEAT table 1"]
    assert "RobustBench Wong2020Fast" in names


def test_a_collapsed_run_is_shown_with_its_accuracy_and_squeezes_nothing(cifar10):
    axes = figure_of(*cifar10).axes[0]
    assert axes.get_xlim()[0] > 20
    assert [text.get_text() for text in axes.texts] == ["← 0.0"]


def test_the_plot_s_alternative_text_has_its_numbers(cifar10):
    text = plot.literature_text(*cifar10)
    assert "DEAT table 1 45.95 %" in text.alt
    assert "1 of 3 collapsed" in text.alt


def test_letters_go_on_after_z():
    assert [literature._letter(i) for i in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]
