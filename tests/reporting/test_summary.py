"""The three sentences that a report begins with."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import VARIANTS, made_up_suite, write_results, write_verdicts

from analysis.results import collate
from experiment.suite import Suite
from reporting.summary import summary

ROOT = Path(__file__).resolve().parent.parent.parent
FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus")}
EVERY_RUN = [(label, seed) for label in FEW for seed in range(3)]


def summarized(tmp_path, suite, variants=FEW, after=lambda folder: None, **events):
    folder = write_results(tmp_path, suite, variants=variants, **events)
    after(folder)
    sentences = summary(suite, collate(suite, folder).runs)
    for sentence in sentences:
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "nan" not in sentence.lower().replace("finance", "")
        assert ". " not in sentence.removesuffix(".")
    return sentences


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, epochs=6)


def test_the_summary_of_the_reference_results_is_what_their_tables_say():
    suite = Suite.load(ROOT / "configs" / "quick.yaml")
    runs = collate(suite, ROOT / "results" / "reference" / "quick").runs
    mplus, front, doubts = summary(suite, runs)
    effect = pd.read_csv(ROOT / "results/reference/quick/tables/effect.csv").set_index("variant")
    cheaper = effect[effect["compute_ratio_mean"] >= 1.05]
    fewest, most = cheaper["compute_ratio_mean"].min(), cheaper["compute_ratio_mean"].max()
    assert f"saves compute in {len(cheaper)} of 5 comparisons ({fewest:.1f} to {most:.1f} times less" in mplus
    for label, row in effect.iterrows():
        weaker = f"{label} is weaker (−{-row['autoattack_points_mean']:.1f} points)"
        assert (weaker in mplus) == (row["autoattack_points_high"] < 0)
    assert "neither a difference nor equivalence within 1 point is shown" in mplus
    labels = [variant.label for variant in suite.variants]
    listed = [label for label in labels if f"{label} (" in front]
    means = runs[runs["attack"] == "autoattack"].groupby("variant")[["compute", "accuracy"]].mean()
    on_front = [
        label
        for label in labels
        if not any(
            other.compute <= means.compute[label]
            and other.accuracy >= means.accuracy[label]
            and (other.compute, other.accuracy) != (means.compute[label], means.accuracy[label])
            for other in means.itertuples()
        )
    ]
    assert listed == [label for label in labels if label in on_front]
    assert "3 seeds and 128 test images" in doubts
    (hardware,) = runs["hardware"].unique()
    assert f"seconds are those of {hardware} and of no other machine" in doubts


def test_every_verdict_is_counted_once_and_named(tmp_path, suite):
    rng = np.random.default_rng(0)

    def attack(folder):
        for base, mplus, share in (("pgd-7", "pgd+mplus", 0.999), ("fast", "fast+mplus", 0.8)):
            for seed in range(3):
                robust = rng.random(5000) < 0.6
                write_verdicts(folder / f"digits/{base}/seed{seed}/evaluate", "autoattack", robust)
                robust = robust & (rng.random(5000) < share)
                write_verdicts(folder / f"digits/{mplus}/seed{seed}/evaluate", "autoattack", robust)

    mplus, _, doubts = summarized(tmp_path, suite, after=attack)
    assert "pgd+mplus is equivalent within 1 point" in mplus
    assert "fast+mplus is weaker (−12." in mplus
    assert "5,000 test images" in doubts


def test_a_suite_without_mplus_says_so_and_still_has_a_front(tmp_path):
    few = {"pgd-7": VARIANTS["pgd-7"], "fast": VARIANTS["fast"]}
    mplus, front, doubts = summarized(tmp_path, made_up_suite(few, epochs=4), few)
    assert "No variant of this suite names a base" in mplus
    assert "pgd-7 (" in front
    assert "difference to" not in doubts


def test_one_seed_is_told_to_be_untested(tmp_path):
    mplus, _, doubts = summarized(tmp_path, made_up_suite(FEW, seeds=(0,), epochs=4))
    assert "pgd+mplus and fast+mplus are untested" in mplus
    assert "1 seed and 128 test images" in doubts


def test_several_data_sets_are_told_apart(tmp_path):
    mplus, front, _ = summarized(tmp_path, made_up_suite(FEW, datasets=("digits", "cifar10"), epochs=4))
    assert mplus.startswith("On digits and cifar10, ")
    assert "pgd+mplus on digits" in mplus
    assert " on digits; " in front
    assert " on cifar10" in front


@pytest.mark.parametrize("status", ["collapsed", "diverged"])
def test_where_every_run_failed_nothing_is_compared_and_there_is_no_front(tmp_path, suite, status):
    mplus, front, doubts = summarized(tmp_path, suite, **{status: EVERY_RUN})
    assert ("as runs of a pair collapsed" if status == "collapsed" else "nothing is compared") in mplus
    assert "weaker" not in mplus
    assert "no front" in front
    assert f"12 runs {status}" in doubts


def test_what_is_missing_failed_or_suspect_is_counted(tmp_path, suite):
    def damage(folder):
        shutil.rmtree(folder / "digits/pgd+mplus/seed1")
        (folder / "digits/pgd-7/seed0/evaluate/autoattack.json").unlink()
        write_verdicts(folder / "digits/fast/seed1/evaluate", "autoattack", np.ones(128, bool))

    _, front, doubts = summarized(tmp_path, suite, after=damage, collapsed=[("fast", 2)])
    assert "1 run collapsed (fast seed 2" in doubts
    assert "1 run is suspect" in doubts
    assert "1 run is missing" in doubts
    assert "1 evaluation is missing" in doubts
    assert "fast (" not in front


def test_the_seeds_behind_the_judged_attack_are_counted_not_those_that_were_planned(tmp_path, suite):
    def lose(seeds, labels):
        def after(folder):
            for label in labels:
                for seed in seeds:
                    (folder / f"digits/{label}/seed{seed}/evaluate/autoattack.json").unlink()

        return after

    for name, seeds, labels, said in (
        ("all", (), FEW, "3 seeds"),
        ("fewer", (1, 2), FEW, "1 seed"),
        ("one", (1, 2), ["fast"], "1 to 3 seeds"),
        ("none of one", (0, 1, 2), ["fast"], "0 to 3 seeds"),
        ("none", (0, 1, 2), FEW, "no seed"),
    ):
        doubts = summarized(tmp_path / name, suite, after=lose(seeds, labels))[2]
        assert doubts.startswith(f"All of this rests on {said} and ")


def test_seconds_of_several_machines_are_doubted(tmp_path, suite):
    *_, doubts = summarized(tmp_path, suite, hardware={0: "one", 1: "another", 2: "another"})
    assert "seconds are of 2 kinds of hardware" in doubts
