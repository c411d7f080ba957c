"""Which variants a table prints bold: the best, and those that cannot be told from it."""

import json

import numpy as np
import pytest
from synthetic import VARIANTS, changed, edit, made_up_suite, robust_images, write_results, write_verdicts
from test_tables import built

from analysis.statistics import mcnemar
from reporting import formatting

ONE = {label: VARIANTS[label] for label in ("pgd-7", "fast", "free-8")}


def bold(table, column="pgd-20"):
    return {line.cells["variant"].text for line in table.lines if column in line.best}


def write_seeds(folder, attack, right):
    """Verdicts by variant and seed: bool (images,)."""
    for label, seeds in right.items():
        for seed, verdicts in enumerate(seeds):
            write_verdicts(folder / f"digits/{label}/seed{seed}/evaluate", attack, np.asarray(verdicts))


@pytest.fixture
def three(tmp_path):
    """Three variants over 3 seeds, of which pgd-20 leaves about 70, 69 and 40 % of 400 images robust."""
    suite = made_up_suite(ONE, attacks=("clean", "pgd-20"), epochs=4)
    folder = write_results(tmp_path, suite, variants=ONE)
    rng = np.random.default_rng(0)
    rates = {"pgd-7": 0.70, "fast": 0.69, "free-8": 0.40}
    write_seeds(folder, "pgd-20", {label: rng.random((3, 400)) < rate for label, rate in rates.items()})
    return suite, folder


def test_the_best_and_what_cannot_be_told_from_it_are_bold_in_every_form(three):
    suite, folder = three
    table = built(folder, suite)["robustness"]
    assert bold(table) == {"pgd-7", "fast"}
    files, cells = table.files(), table.shown.set_index("variant")["pgd-20"]
    assert f"**{cells['fast']}**" in files["robustness.md"]
    assert f"**{cells['free-8']}**" not in files["robustness.md"]
    assert "\\textbf{" + formatting.escape_latex(cells["fast"]) + "}" in files["robustness.tex"]
    assert "**" not in table.to_text() + files["robustness.csv"]
    assert "Bold" in table.caption
    assert not any(
        line.best for name, other in built(folder, suite).items() if name != "robustness" for line in other.lines
    )


def test_a_small_difference_on_the_same_images_in_every_seed_is_no_tie(three):
    suite, folder = three
    base = np.random.default_rng(1).random((3, 400)) < 0.7
    worse = base.copy()
    worse[:, :40] = False  # 7 points, far below what two independent samples of 400 could tell
    write_seeds(folder, "pgd-20", {"pgd-7": base, "fast": worse})
    assert bold(built(folder, suite)["robustness"]) == {"pgd-7"}


def test_what_only_one_seed_shows_is_a_tie(three):
    suite, folder = three
    base = np.random.default_rng(1).random((3, 400)) < 0.7
    worse = base.copy()
    worse[2, :120] = False
    write_seeds(folder, "pgd-20", {"pgd-7": base, "fast": worse})
    assert bold(built(folder, suite)["robustness"]) == {"pgd-7", "fast"}


@pytest.mark.parametrize(("lost", "tied"), [(5, True), (6, False)])
def test_with_one_seed_in_common_mcnemars_test_decides(three, lost, tied):
    suite, folder = three
    suite = changed(suite, seeds=[0])
    base = np.arange(400) < 280
    write_seeds(folder, "pgd-20", {"pgd-7": [base], "fast": [base & (np.arange(400) >= lost)]})
    assert mcnemar(base, base & (np.arange(400) >= lost)).p_value == pytest.approx(2 * 0.5**lost)  # 0.0625, 0.03125
    assert bold(built(folder, suite)["robustness"]) == ({"pgd-7", "fast"} if tied else {"pgd-7"})


@pytest.mark.parametrize("doubt", ["collapsed", "diverged", "suspect"])
def test_a_variant_with_a_run_in_doubt_is_never_bold(three, doubt):
    suite, folder = three
    if doubt == "suspect":
        edit(folder / "digits/pgd-7/seed1/evaluate/clean.json", flags=["something new"])
    else:
        edit(folder / "digits/pgd-7/seed1/train.json", status=doubt, status_epoch=1, status_reason="seen")
    if doubt == "diverged":
        gone = {"status": "not-evaluated", "images": 0}
        for path in (folder / "digits/pgd-7/seed1/evaluate").glob("*.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | gone | {"correct": None, "accuracy": None}))
            np.save(path.with_suffix(".robust.npy"), np.zeros(0, bool))
    table = built(folder, suite)["robustness"]
    assert "pgd-7" in set(table.shown["variant"])
    assert bold(table) == {"fast"}


def test_each_data_set_has_a_best_of_its_own(tmp_path):
    suite = made_up_suite(ONE, datasets=("digits", "cifar10"), attacks=("clean", "pgd-20"), epochs=4)
    folder = write_results(tmp_path, suite, variants=ONE)
    for dataset, best in (("digits", "fast"), ("cifar10", "free-8")):
        for label in ONE:
            for seed in range(3):
                robust = robust_images(360, 300 if label == best else 100)
                write_verdicts(folder / f"{dataset}/{label}/seed{seed}/evaluate", "pgd-20", robust)
    table = built(folder, suite)["robustness"]
    best_lines = [(line.dataset, line.variant) for line in table.lines if "pgd-20" in line.best]
    assert best_lines == [("digits", "fast"), ("cifar10", "free-8")]


def test_a_variant_alone_is_not_the_best(tmp_path):
    few = {"pgd-7": VARIANTS["pgd-7"]}
    suite = made_up_suite(few, epochs=4)
    table = built(write_results(tmp_path, suite, variants=few), suite)["robustness"]
    assert not any(line.best for line in table.lines)
    assert "Bold" not in table.caption
