"""Seconds that were taken beside other work enter no mean, no plot and no claim without a mark."""

import json

import numpy as np
import pytest
from synthetic import DISTURBED, VARIANTS, edit, made_up_suite, write_results

from analysis.pareto import standings
from analysis.results import collate
from reporting import tables
from reporting.effect import effect_table
from reporting.plots import pareto
from reporting.run_pages import pages
from reporting.summary import summary

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus")}
EVERY_RUN = [(label, seed) for label in FEW for seed in range(3)]
pytestmark = pytest.mark.fault("clock")


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, epochs=6)


def seconds(folder, label):
    return [
        json.loads((folder / f"digits/{label}/seed{seed}/train.json").read_text())["cost"]["seconds"]
        for seed in range(3)
    ]


def collated(tmp_path, suite, disturbed=()):
    folder = write_results(tmp_path, suite, variants=FEW, disturbed=disturbed)
    return folder, collate(suite, folder).runs


def table(suite, runs, name):
    made = next(table for table in tables.build(suite, runs) if table.name == name)
    return made, made.data.set_index("variant"), made.shown.set_index("variant")


def test_means_of_seconds_are_of_undisturbed_runs_and_the_table_says_how_many_and_which(tmp_path, suite):
    folder, runs = collated(tmp_path, suite, [("pgd-7", 1)])
    made, data, shown = table(suite, runs, "cost")
    quiet = np.array(seconds(folder, "pgd-7"))[[0, 2]]
    assert data.loc["pgd-7", "seconds_mean"] == pytest.approx(quiet.mean())
    assert dict(data.loc["pgd-7", ["n", "n_timed", "disturbed"]]) == {"n": 3, "n_timed": 2, "disturbed": 1}
    for column in ("seconds", "images a second"):
        assert shown.loc["pgd-7", column].endswith("(n = 2)")
    for column in ("passes", "peak memory (MiB)"):
        assert "(n = 2)" not in shown.loc["pgd-7", column]
    assert any(note.startswith("Timed beside other work on the machine: 1 of 12 runs") for note in made.notes)
    assert f"Disturbed: pgd-7 seed 1 (digits): {DISTURBED}." in made.notes


def test_where_all_runs_were_disturbed_the_seconds_are_shown_with_a_mark(tmp_path, suite):
    folder, runs = collated(tmp_path, suite, [("pgd-7", seed) for seed in range(3)])
    made, data, shown = table(suite, runs, "cost")
    assert data.loc["pgd-7", "seconds_mean"] == pytest.approx(np.mean(seconds(folder, "pgd-7")))
    for column in ("seconds", "images a second"):
        assert shown.loc["pgd-7", column].endswith(" †")
        assert "†" not in shown.loc["fast", column]
    assert "†" not in shown.loc["pgd-7", "passes"]
    assert r"$\dagger$" in made.files()["cost.tex"]


def test_a_speed_up_is_of_pairs_of_which_neither_run_was_disturbed(tmp_path, suite):
    folder, runs = collated(tmp_path, suite, [("pgd-7", 0)])
    _, data, shown = table(suite, runs, "effect")
    base, mplus = (np.array(seconds(folder, label))[1:] for label in ("pgd-7", "pgd+mplus"))
    assert data.loc["pgd+mplus", "seconds_ratio_mean"] == pytest.approx(np.exp(np.log(base / mplus).mean()))
    assert data.loc["pgd+mplus", "seconds_ratio_n"] == 2
    assert "(n = 2)" in shown.loc["pgd+mplus", "faster"]
    assert "(n = 2)" not in shown.loc["pgd+mplus", "fewer passes"]


def test_no_speed_up_is_claimed_from_a_busy_machine(tmp_path, suite):
    _, runs = collated(tmp_path, suite, EVERY_RUN)
    _, data, shown = table(suite, runs, "effect")
    assert data["seconds_ratio_disturbed"].all()
    assert shown["faster"].str.endswith(" †").all()
    said = " ".join(summary(suite, runs))
    assert "times faster" not in said
    assert "times less" in said
    assert "12 of 12 runs were timed on a machine busy with other work, and no speed-up is claimed from them" in said


def test_an_undisturbed_suite_says_nothing_of_it(tmp_path, suite):
    _, runs = collated(tmp_path, suite)
    said = " ".join(summary(suite, runs))
    assert "times faster" in said
    assert "busy" not in said
    for made in tables.build(suite, runs):
        assert not any("†" in note or "isturbed" in note for note in made.notes)


def test_the_cost_table_says_how_busy_other_cores_were_meanwhile(tmp_path, suite):
    folder, runs = collated(tmp_path, suite)
    notes = table(suite, runs, "cost")[0].notes
    assert "Up to 1.0 of the machine's other cores were busy while a run was timed." in notes
    notes = table(suite, runs.assign(cores_beside=0.01), "cost")[0].notes
    assert not any("other cores" in note for note in notes)
    notes = table(suite, runs.assign(cores_beside=np.nan), "cost")[0].notes
    assert not any("other cores" in note for note in notes)


def test_an_interval_that_reaches_from_slower_to_faster_is_no_claim(tmp_path, suite):
    """As of a machine that was busy in some runs and was not seen to be: 0.07 to 24.5 times as fast."""
    folder, _ = collated(tmp_path, suite)
    for seed, factor in enumerate((0.1, 1.0, 20.0)):
        path = folder / f"digits/pgd-7/seed{seed}/train.json"
        cost = json.loads(path.read_text())["cost"]
        edit(path, cost=cost | {"seconds": factor * cost["seconds"]})
    runs = collate(suite, folder).runs
    effect = effect_table(suite, runs).data.set_index("variant").loc["pgd+mplus"]
    assert effect["seconds_ratio_low"] < 1 < effect["seconds_ratio_mean"]
    assert effect["cost_verdict"] == "cheaper in compute only"
    assert "times faster" not in summary(suite, runs)[0]


def test_the_plot_of_seconds_leaves_disturbed_runs_out_and_marks_variants_that_have_no_others(tmp_path, suite):
    folder, runs = collated(tmp_path, suite, [("pgd-7", 0), *(("fast", seed) for seed in range(3))])
    rows = runs[runs["attack"] == "autoattack"]
    stand = standings(suite, rows, "seconds")
    assert stand.loc["pgd-7", "cost"] == pytest.approx(np.mean(seconds(folder, "pgd-7")[1:]))
    assert stand["disturbed"].to_dict() == {"pgd-7": 0, "pgd+mplus": 0, "fast": 3, "fast+mplus": 0}
    assert not stand.loc["fast", "front"]
    assert standings(suite, rows, "passes")["disturbed"].sum() == 0
    text = pareto.pareto_text(suite, runs, "seconds")
    assert "Timed beside other work on the machine: 4 of 12 runs" in text.caption
    assert "fast 3 of 3 disturbed" in text.alt
    assert "fast to fast+mplus" not in text.alt
    drawn = " ".join(
        text.get_text() for axes in pareto.pareto_figure(suite, runs, "seconds").axes for text in axes.texts
    )
    assert "fast (3 of 3 disturbed)" in drawn


def test_runs_csv_and_the_run_s_page_say_why(tmp_path, suite):
    folder, runs = collated(tmp_path, suite, [("fast", 2)])
    assert set(runs.loc[(runs["variant"] == "fast") & (runs["seed"] == 2), "disturbed"]) == {DISTURBED}
    assert {"cpu_seconds", "others_cores", "epoch_spread"} <= set(runs.columns)
    page = next(page for page in pages(collate(suite, folder)) if page.title == "digits fast seed 2")
    assert page.doubts == [f"Disturbed: {DISTURBED}."]
