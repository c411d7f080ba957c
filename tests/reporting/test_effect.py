"""The table of what M+ changes, and its verdicts in words."""

import json
import re
import shutil

import numpy as np
import pytest
from synthetic import VARIANTS, changed, edit, made_up_suite, robust_images, write_results, write_verdicts

from analysis.results import collate
from analysis.statistics import crossed_mean, mcnemar, paired_interval
from reporting.effect import effect_table
from reporting.summary import summary

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus")}


def effect(folder, suite):
    return effect_table(suite, collate(suite, folder).runs)


def set_accuracy(folder, run, attack, correct, images=360):
    write_verdicts(folder / "digits" / run / "evaluate", attack, robust_images(images, correct))


def row(table, variant):
    return table.data.set_index("variant").loc[variant]


def shown(table, variant):
    return table.shown.set_index("variant").loc[variant]


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, epochs=6)


@pytest.fixture
def folder(tmp_path, suite):
    return write_results(tmp_path, suite, variants=FEW)


@pytest.fixture(scope="module")
def alone():
    """A suite of one pair and one attack, with nothing for it to disagree with."""
    return made_up_suite({label: FEW[label] for label in ("pgd-7", "pgd+mplus")}, attacks=("autoattack",), epochs=6)


@pytest.fixture
def attacked(tmp_path, alone):
    return write_results(tmp_path, alone, variants={label: FEW[label] for label in ("pgd-7", "pgd+mplus")})


def costs(folder, label, **changes):
    """Change costs in the training records of a variant, by name: a value a seed."""
    for seed, values in enumerate(zip(*changes.values(), strict=True)):
        path = folder / f"digits/{label}/seed{seed}/train.json"
        edit(path, cost=json.loads(path.read_text())["cost"] | dict(zip(changes, values, strict=True)))


def judged(folder, suite, base, mplus):
    """The verdict on pgd+mplus where AutoAttack leaves these networks' images robust: (seeds, images) bool."""
    for label, verdicts in (("pgd-7", base), ("pgd+mplus", mplus)):
        for seed, robust in enumerate(verdicts):
            write_verdicts(folder / f"digits/{label}/seed{seed}/evaluate", "autoattack", robust)
    return effect(folder, suite)


def test_the_effect_is_paired_so_what_a_seed_does_to_both_cancels(folder, suite):
    for seed, common in enumerate((0, 60, 150)):
        set_accuracy(folder, f"pgd-7/seed{seed}", "pgd-20", 100 + common)
        set_accuracy(folder, f"pgd+mplus/seed{seed}", "pgd-20", 100 + common + (18, 36, 54)[seed])
    numbers = row(effect(folder, suite), "pgd+mplus")
    assert numbers["pgd-20_points_mean"] == pytest.approx(10)
    assert numbers["pgd-20_points_std"] == pytest.approx(5)
    half = 4.303 * 5 / 3**0.5
    interval = (numbers["pgd-20_points_low_seeds_only"], numbers["pgd-20_points_high_seeds_only"])
    assert interval == pytest.approx((10 - half, 10 + half), abs=1e-2)


def test_speed_ups_are_base_over_mplus_and_seconds_need_the_same_hardware(folder, suite):
    costs(folder, "fast", seconds=[30.0, 30.0, 40.0], passes=[60.0] * 3, compute=[90.0] * 3)
    costs(folder, "fast+mplus", seconds=[20.0, 20.0, 20.0], passes=[15.0] * 3, compute=[45.0] * 3)
    path = folder / "digits/fast/seed1/train.json"
    provenance = json.loads(path.read_text())["provenance"]
    edit(path, provenance=provenance | {"hardware": provenance["hardware"] | {"label": "another"}})
    table = effect(folder, suite)
    numbers = row(table, "fast+mplus")
    assert (numbers["passes_ratio_mean"], numbers["passes_ratio_n"]) == (pytest.approx(4), 3)
    assert (numbers["seconds_ratio_mean"], numbers["seconds_ratio_n"]) == (pytest.approx(3**0.5), 2)
    assert shown(table, "fast+mplus")["less compute"] == "2.00"
    assert shown(table, "fast+mplus")["fewer passes"] == "4.00"  # counted, the same for all seeds
    assert shown(table, "fast+mplus")["faster"].startswith("1.73 (n = 2) [")


def test_pairs_with_a_diverged_or_missing_run_are_counted_and_not_used(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, diverged=[("pgd-7", 0)])
    (folder / "digits/pgd+mplus/seed1/train.json").unlink()
    table = effect(folder, suite)
    numbers = row(table, "pgd+mplus")
    assert (numbers["n"], numbers["diverged"], numbers["missing"]) == (1, 1, 1)
    assert (numbers["clean_points_n"], numbers["passes_ratio_n"], numbers["seconds_ratio_n"]) == (1, 1, 1)
    assert shown(table, "pgd+mplus")["pairs"] == "1 of 3"


def test_a_mean_with_collapsed_runs_is_not_judged_and_a_line_without_them_is(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, collapsed=[("fast", 2)])
    table = effect(folder, suite)
    numbers = row(table, "fast+mplus")
    assert numbers["collapsed"] == 1
    assert numbers["pgd-20_points_mean"] > 8
    assert abs(numbers["pgd-20_points_mean_not_collapsed"]) < 5
    assert numbers["robustness_verdict"] == "collapsed"
    assert numbers["verdict"].endswith("; collapsed: base in 1 of 3")
    assert shown(table, "fast+mplus, not collapsed")["pairs"] == "2"
    assert "with 2 seeds" in shown(table, "fast+mplus, not collapsed")["verdict"]
    assert np.isnan(row(table, "pgd+mplus")["pgd-20_points_mean_not_collapsed"])


def test_a_suite_without_bases_has_an_empty_effect_table_that_says_why(tmp_path):
    few = {"pgd-7": VARIANTS["pgd-7"]}
    suite = made_up_suite(few, epochs=4)
    table = effect(write_results(tmp_path, suite, variants=few), suite)
    assert len(table.data) == 0
    for name, text in table.files().items():
        assert ("No variant" in text) == (not name.endswith(".csv"))
        assert "|" not in text
        assert "tabular" not in text


def test_base_and_mplus_are_compared_image_by_image_for_each_seed_alone(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, diverged=[("pgd-7", 2)])
    rng, expected = np.random.default_rng(0), []
    for seed in (0, 1):
        base, mplus = rng.random((2, 360)) < [[0.5], [0.4]]
        write_verdicts(folder / f"digits/pgd-7/seed{seed}/evaluate", "pgd-20", base)
        write_verdicts(folder / f"digits/pgd+mplus/seed{seed}/evaluate", "pgd-20", mplus)
        expected.append(mcnemar(base, mplus))
    table = effect(folder, suite)
    numbers = row(table, "pgd+mplus")
    assert numbers["pgd-20_only_base"] == f"{expected[0].only_first}; {expected[1].only_first}; –"
    assert numbers["pgd-20_only_variant"] == f"{expected[0].only_second}; {expected[1].only_second}; –"
    assert numbers["pgd-20_mcnemar_p"] == f"{expected[0].p_value:.3g}; {expected[1].p_value:.3g}; –"


def test_the_interval_and_the_p_values_are_of_seeds_and_images_together(attacked, alone):
    rng = np.random.default_rng(0)
    base, mplus = rng.random((3, 128)) < 0.5, rng.random((3, 128)) < 0.6
    numbers = row(judged(attacked, alone, base, mplus), "pgd+mplus")
    mean = crossed_mean(mplus.astype(float) - base)
    low, high = (100 * bound for bound in mean.interval())
    assert (numbers["autoattack_points_low"], numbers["autoattack_points_high"]) == pytest.approx((low, high))
    assert numbers["autoattack_equivalence_p"] == pytest.approx(mean.equivalence_p(0.01))
    assert numbers["autoattack_difference_p"] == pytest.approx(mean.difference_p())
    by_seed = paired_interval(100 * (mplus.mean(axis=1) - base.mean(axis=1)))
    assert numbers["autoattack_points_low_seeds_only"] == pytest.approx(by_seed[0])
    assert f"[{low:+.1f}, {high:+.1f}]".replace("-", "−") in shown(effect(attacked, alone), "pgd+mplus")["autoattack"]


def test_nearly_equal_networks_on_many_images_are_equivalent_and_on_few_inconclusive(attacked, alone):
    rng = np.random.default_rng(0)
    for images, verdict in ((128, "inconclusive"), (10_000, "equivalent")):
        base = rng.random((3, images)) < 0.5
        mplus = base ^ (rng.random((3, images)) < 0.01)
        table = judged(attacked, alone, base, mplus)
        assert row(table, "pgd+mplus")["robustness_verdict"] == verdict
    assert shown(table, "pgd+mplus")["verdict"] == "cheaper and equivalent"


def test_a_difference_that_is_certain_but_within_the_margin_is_equivalence(attacked, alone):
    rng = np.random.default_rng(0)
    base = np.repeat(rng.random((1, 10_000)) < 0.5, 3, axis=0)
    mplus = base & (rng.random(base.shape) < 0.992)  # about 0.4 points fewer
    numbers = row(judged(attacked, alone, base, mplus), "pgd+mplus")
    assert numbers["autoattack_points_high"] < 0
    assert numbers["verdict"] == "cheaper and equivalent"
    narrower = changed(alone, evaluation=alone.resolved["evaluation"] | {"equivalence_margin": 0.2})
    table = effect(attacked, narrower)
    assert row(table, "pgd+mplus")["verdict"] == "cheaper but weaker"
    assert "± 0.2 points" in table.caption


@pytest.mark.parametrize(
    ("compute", "seconds", "verdict"),
    [
        ((8.0, 8.0, 9.0), (1.0, 1.0, 1.0), "cheaper but weaker"),
        ((8.0, 8.0, 9.0), (2.0, 2.1, 2.0), "cheaper in compute only but weaker"),
        ((8.0, 8.0, 9.0), (2.6, 2.7, 2.8), "cheaper in compute but slower, but weaker"),
        ((20.0, 21.0, 22.0), (1.0, 1.1, 1.2), "dearer in compute but faster, and weaker"),
        ((16.0, 16.2, 15.9), (2.0, 2.1, 2.0), "as costly and weaker"),
        ((20.0, 21.0, 22.0), (2.0, 2.1, 2.0), "dearer and weaker"),
        ((8.0, 16.0, 22.0), (2.0, 2.1, 2.0), "not always cheaper and weaker"),
    ],
)
def test_the_verdict_says_what_the_compute_of_every_pair_says(attacked, alone, compute, seconds, verdict):
    costs(attacked, "pgd-7", seconds=[2.0] * 3, compute=[16.0] * 3)
    costs(attacked, "pgd+mplus", seconds=seconds, compute=compute)
    rng = np.random.default_rng(0)
    base, mplus = rng.random((3, 1000)) < 0.5, rng.random((3, 1000)) < 0.3
    assert row(judged(attacked, alone, base, mplus), "pgd+mplus")["verdict"] == verdict
    swapped = row(judged(attacked, alone, mplus, base), "pgd+mplus")["verdict"]
    assert swapped.endswith("stronger")
    assert swapped.endswith(" but stronger") == verdict.startswith("dearer")


def test_where_compute_and_seconds_disagree_in_direction_a_note_gives_both(attacked, alone):
    costs(attacked, "pgd-7", seconds=[2.0] * 3, compute=[16.0] * 3)
    costs(attacked, "pgd+mplus", seconds=[2.5, 2.5, 2.5], compute=[8.0] * 3)
    notes = " ".join(effect(attacked, alone).notes)
    assert "compute and seconds disagree, 2.00 times less compute and 1.25 times slower." in notes
    assert "compute and seconds disagree on pgd+mplus" in summary(alone, collate(alone, attacked).runs)[0]
    costs(attacked, "pgd+mplus", seconds=[1.5, 1.5, 1.5])
    assert "disagree" not in " ".join(effect(attacked, alone).notes)


def test_an_inconclusive_verdict_says_how_many_seeds_or_that_images_are_wanting(attacked, alone):
    rng = np.random.default_rng(1)
    base, by_seed = rng.random((3, 20_000)) < 0.5, np.array([[0.005], [0.02], [0.04]])
    table = judged(attacked, alone, base, base & (rng.random(base.shape) > by_seed))
    needed = row(table, "pgd+mplus")["autoattack_seeds_needed"]
    assert shown(table, "pgd+mplus")["verdict"].endswith(
        f"inconclusive with 3 seeds: {needed:.0f} would probably settle it"
    )
    assert 4 <= needed <= 50
    few = judged(attacked, alone, base[:, :128], rng.random((3, 128)) < 0.5)
    assert shown(few, "pgd+mplus")["verdict"].endswith(
        "with 3 seeds: more seeds alone would probably not settle it on 128 images"
    )
    assert np.isnan(row(few, "pgd+mplus")["autoattack_seeds_needed"])


def test_one_seed_is_not_tested(tmp_path):
    suite = made_up_suite(FEW, seeds=(0,), epochs=4)
    table = effect(write_results(tmp_path, suite, variants=FEW), suite)
    assert row(table, "pgd+mplus")["robustness_verdict"] == "untested"
    assert "one seed" in shown(table, "pgd+mplus")["verdict"]
    assert re.fullmatch(r"[+−]\d+\.\d", shown(table, "pgd+mplus")["autoattack"])


def test_where_no_pair_is_left_the_verdict_says_why(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, diverged=[("pgd+mplus", seed) for seed in range(3)])
    line = shown(effect(folder, suite), "pgd+mplus")
    assert line["verdict"] == "no pair; diverged: M+ in 3 of 3"
    assert line["fewer passes"] == line["autoattack"] == "–"


@pytest.mark.parametrize("gone", [("pgd-7",), ("pgd+mplus",), ("pgd-7", "pgd+mplus")])
def test_a_base_or_mplus_without_any_run_leaves_no_pair_and_all_else_is_told(folder, suite, gone):
    for label in gone:
        shutil.rmtree(folder / "digits" / label)
    table = effect(folder, suite)
    assert shown(table, "pgd+mplus")["verdict"] == "no pair"
    assert (row(table, "pgd+mplus")["n"], row(table, "pgd+mplus")["missing"]) == (0, 3)
    assert row(table, "fast+mplus")["n"] == 3


def test_there_is_no_difference_between_accuracies_on_other_numbers_of_images(folder, suite):
    for seed in range(3):
        set_accuracy(folder, f"pgd-7/seed{seed}", "autoattack", 20, images=64)
    set_accuracy(folder, "fast/seed1", "autoattack", 20, images=64)
    table = effect(folder, suite)
    assert shown(table, "pgd+mplus")["autoattack"] == "–"
    assert np.isnan(row(table, "pgd+mplus")["autoattack_points_mean"])
    assert "(n = 2)" in shown(table, "fast+mplus")["autoattack"]


def test_a_test_that_has_decided_needs_no_more_seeds(attacked, alone):
    rng = np.random.default_rng(0)
    base = rng.random((3, 10_000)) < 0.5
    for lost in (0.0, 0.3):  # equivalent, weaker
        numbers = row(judged(attacked, alone, base, base & (rng.random(base.shape) >= lost)), "pgd+mplus")
        assert numbers["robustness_verdict"] in ("equivalent", "weaker")
        assert np.isnan(numbers["autoattack_seeds_needed"])


def test_without_autoattack_the_last_attack_is_judged(tmp_path):
    suite = made_up_suite(FEW, attacks=("clean", "pgd-20"), epochs=4)
    table = effect(write_results(tmp_path, suite, variants=FEW), suite)
    assert set(table.data["headline"]) == {"pgd-20"}
    assert "pgd-20" in table.shown


def test_a_verdict_names_suspect_runs(folder, suite):
    set_accuracy(folder, "fast/seed1", "autoattack", 128, 128)
    table = effect(folder, suite)
    assert shown(table, "fast+mplus")["verdict"].endswith("; suspect: base in 1 of 3")
    assert "suspect" not in shown(table, "pgd+mplus")["verdict"]
