"""Two folders of results, side by side."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic import VARIANTS, edit, made_up_suite, write_results, write_verdicts

from analysis.compare import compare, read_folder
from analysis.statistics import changes, holm
from reporting.compare import main

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "results" / "reference" / "quick"
FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast")}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("a"), made_up_suite(FEW, epochs=4), variants=FEW)


@pytest.fixture
def copy(tmp_path, original):
    return Path(shutil.copytree(original, tmp_path / "b" / "quick"))


def trained_again(folder, seed=0, flipped=0.03):
    """Give every run of `folder` other weights, whose robust images are others by as many as are lost on average."""
    rng = np.random.default_rng(seed)
    for path in folder.glob("*/*/seed*/train.json"):
        weights = hashlib.sha256(f"{path} {seed}".encode()).hexdigest()
        edit(path, weights_sha256=weights)
        for evaluation in (path.parent / "evaluate").glob("*.json"):
            edit(evaluation, weights_sha256=weights)
            robust = np.load(evaluation.with_name(f"{evaluation.stem}.robust.npy"))
            share = np.where(robust, flipped / max(robust.mean(), 0.1), flipped / max(1 - robust.mean(), 0.1))
            write_verdicts(evaluation.parent, evaluation.stem, robust ^ (rng.random(len(robust)) < share))


def ran(capsys, a, b):
    status = main([str(a), str(b)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_results_are_identical_to_themselves(capsys):
    status, out, err = ran(capsys, REFERENCE, REFERENCE)
    assert (status, err) == (0, "")
    assert "unchanged within noise" not in out
    assert out.count("identical") == 10 * 4 + 10
    assert "Nothing changed beyond noise" in out


def test_training_again_with_other_noise_changes_nothing(capsys, original, copy):
    trained_again(copy)
    status, out, _ = ran(capsys, original, copy)
    assert status == 0
    assert out.count("unchanged within noise") == 3 * 4


def test_one_variant_that_lost_ten_points_is_a_change_and_the_others_are_none(capsys, original, copy):
    trained_again(copy)
    rng = np.random.default_rng(1)
    for seed in range(3):
        folder = copy / f"digits/fast/seed{seed}/evaluate"
        robust = np.load(folder / "pgd-20.robust.npy")
        write_verdicts(folder, "pgd-20", robust & (rng.random(len(robust)) < 0.75))
    status, out, _ = ran(capsys, original, copy)
    assert status == 1
    (line,) = (line for line in out.splitlines() if line.startswith("changed: "))
    assert line.startswith("changed: digits fast pgd-20: ")


def test_the_reference_results_perturbed_are_changed(capsys, tmp_path):
    copy = Path(shutil.copytree(REFERENCE, tmp_path / "quick"))
    for seed in range(3):
        folder = copy / f"digits/deat-d/seed{seed}/evaluate"
        robust = np.load(folder / "margin-20.robust.npy")
        robust[:40] = False
        write_verdicts(folder, "margin-20", robust)
    status, out, _ = ran(capsys, REFERENCE, copy)
    assert status == 1
    assert "changed: digits deat-d margin-20" in out


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_of_results_without_a_change_few_are_called_changed(seeds):
    rng, alarms = np.random.default_rng(seeds), 0
    for _ in range(200):
        p_values, difficulty = [], rng.normal(0, 2, 300)
        spreads = rng.choice([0.05, 0.2], 6)  # of the seeds; variants differ in it
        shifts = [rng.normal(0, spread, (2, seeds, 1)) for spread in spreads]
        for hardness in (0, 0.5, 0.7):
            groups = []
            for shift in shifts:
                a, b = difficulty + shift + rng.normal(0, 0.7, (2, seeds, 300)) + hardness < 1
                groups.append(b.astype(float) - a)
            p_values += [change.p_value for change in changes(groups)]
        alarms += any(holm(p_values))
    assert alarms / 200 <= 0.08


def test_passes_of_a_fixed_rule_may_not_differ_at_all(capsys, original, copy):
    path = copy / "digits/pgd-7/seed1/train.json"
    cost = json.loads(path.read_text())["cost"]
    edit(path, cost=cost | {"passes": cost["passes"] + 1})
    status, out, _ = ran(capsys, original, copy)
    assert status == 1
    assert "changed: digits pgd-7 cost" in out


def test_passes_that_follow_training_are_compared_over_seeds(capsys, original, copy):
    def grow(factors):
        for seed, factor in enumerate(factors):
            cost = json.loads((original / f"digits/pgd+mplus/seed{seed}/train.json").read_text())["cost"]
            changed = cost | {"passes": cost["passes"] * factor}
            edit(copy / f"digits/pgd+mplus/seed{seed}/train.json", cost=changed)
        return ran(capsys, original, copy)

    assert grow((1.1, 0.9, 1.0))[0] == 0
    assert grow((3.0, 3.1, 2.9))[0] == 1


def test_seconds_are_shown_on_equal_hardware_and_decide_nothing(capsys, original, copy):
    for seed in range(3):
        path = copy / f"digits/fast/seed{seed}/train.json"
        cost = json.loads(path.read_text())["cost"]
        edit(path, cost=cost | {"seconds": 2 * cost["seconds"]})
        path = copy / f"digits/pgd-7/seed{seed}/train.json"
        provenance = json.loads(path.read_text())["provenance"]
        edit(path, provenance=provenance | {"hardware": provenance["hardware"] | {"label": "another"}})
    status, out, _ = ran(capsys, original, copy)
    assert status == 0
    lines = {line.split()[0]: line for line in out.partition("seconds b / a")[2].splitlines() if line.strip()}
    assert lines["fast"].rstrip().endswith("2.00")
    assert lines["pgd-7"].rstrip().endswith("other hardware")
    assert "training hardware: AMD EPYC 7763 64-Core Processor, 2 threads -> another" in out


@pytest.mark.fault("clock")
def test_seconds_that_were_taken_beside_other_work_are_not_compared(capsys, original, copy):
    path = copy / "digits/fast/seed1/train.json"
    cost = json.loads(path.read_text())["cost"]
    edit(path, cost=cost | {"seconds": 9 * cost["seconds"], "disturbed": "it had a core for 11% of the time"})
    status, out, _ = ran(capsys, original, copy)
    assert status == 0
    lines = {line.split()[0]: line for line in out.partition("seconds b / a")[2].splitlines() if line.strip()}
    assert lines["fast"].rstrip().endswith("timed beside other work")
    assert lines["pgd-7"].rstrip().endswith("1.00")


def test_a_status_that_differs_and_what_one_folder_lacks_are_changes(capsys, original, copy):
    edit(copy / "digits/fast/seed0/train.json", status="collapsed", status_epoch=2, status_reason="it fell")
    shutil.rmtree(copy / "digits/pgd+mplus/seed2")
    (copy / "digits/pgd-7/seed0/evaluate/clean.json").unlink()
    status, out, _ = ran(capsys, original, copy)
    assert status == 1
    for line in ("fast seed 0: ok -> collapsed", "pgd+mplus seed 2: only in a", "pgd-7 seed 0 clean: only in a"):
        assert f"changed: digits {line}\n" in out


def test_what_differs_in_the_protocol_is_named(capsys, original, copy):
    for path in copy.glob("digits/fast/*/train.json"):
        train = json.loads(path.read_text())
        train["spec"]["training"]["lr"] = 0.1
        train["provenance"]["packages"]["torch"] = "2.16.0"
        train["provenance"]["sources"]["engine"] = "a" * 64
        edit(path, spec=train["spec"], provenance=train["provenance"])
    for path in copy.glob("digits/*/*/evaluate/pgd-20.json"):
        edit(path, settings=json.loads(path.read_text())["settings"] | {"restarts": 2})
    status, out, _ = ran(capsys, original, copy)
    assert status == 1
    assert "Nothing changed" not in out
    for part in ("fast training.lr: 0.05 -> 0.1", "pgd-20 restarts: 1 -> 2", "torch: 2.15.0 -> 2.16.0"):
        assert f"{part}\n" in out
    assert "training engine source: 000000000000 -> aaaaaaaaaaaa" in out


def test_versions_and_hardware_that_differ_are_named_and_are_no_change(capsys, original, copy):
    for path in copy.glob("digits/*/*/train.json"):
        provenance = json.loads(path.read_text())["provenance"]
        provenance["packages"]["torch"] = "2.16.0"
        provenance["hardware"]["label"] = "another"
        edit(path, provenance=provenance)
    status, out, _ = ran(capsys, original, copy)
    assert status == 0
    assert "differs in what it was made with: training torch: 2.15.0 -> 2.16.0\n" in out
    assert "Nothing changed beyond noise" in out


@pytest.mark.fault("version")
def test_threads_that_differ_are_named_with_what_they_change(capsys, original, copy):
    trained_again(copy)
    path = copy / "digits/fast/seed1/train.json"
    provenance = json.loads(path.read_text())["provenance"]
    edit(path, provenance=provenance | {"hardware": provenance["hardware"] | {"threads": 1}})
    _, out, _ = ran(capsys, original, copy)
    assert "differs in what it was made with: training threads: 2 -> 1\n" in out
    assert "Weights depend on hardware, threads, packages and sources" in out
    assert "Weights depend on" not in ran(capsys, original, original)[1]


def test_a_key_that_older_records_lack_counts_as_its_default(capsys, original, copy):
    for path in copy.glob("digits/*/*/train.json"):
        spec = json.loads(path.read_text())["spec"]
        del spec["training"]["crafting_batch_norm"]
        edit(path, spec=spec)
    status, out, _ = ran(capsys, original, copy)
    assert status == 0
    assert "crafting_batch_norm" not in out


def test_other_images_are_not_compared_and_are_a_change(capsys, original, copy):
    for seed in range(3):
        write_verdicts(copy / f"digits/fast/seed{seed}/evaluate", "clean", np.zeros(50, bool))
    status, out, _ = ran(capsys, original, copy)
    assert status == 1
    assert "not the same images" in out
    assert "changed: digits fast clean: 360 -> 50 images\n" in out


def test_one_seed_tells_no_noise(capsys, tmp_path):
    suite = made_up_suite(FEW, seeds=(0,), epochs=4)
    a = write_results(tmp_path / "a", suite, variants=FEW)
    b = Path(shutil.copytree(a, tmp_path / "b" / "quick"))
    trained_again(b, flipped=0.2)
    status, out, _ = ran(capsys, a, b)
    assert status == 0
    assert out.count("unknown: one seed") == 3 * 4
    assert out.endswith("\n12 comparisons could not be tested.\n")
    assert "Nothing changed" not in out


def test_folders_that_cannot_be_compared_are_refused_in_a_sentence(capsys, tmp_path, original):
    other = write_results(tmp_path, made_up_suite(FEW, name="other", seeds=(0,), epochs=4), variants=FEW)
    (tmp_path / "empty").mkdir()
    for folder, sentence in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "empty", "no record"),
        (tmp_path, "no record"),
        (other, "two suites, quick and other"),
    ):
        status, _, err = ran(capsys, original, folder)
        assert status == 2
        assert err.startswith("error: ")
        assert sentence in err
        assert err.count("\n") == 1


def test_a_record_that_cannot_be_used_is_named_and_the_rest_compared(capsys, original, copy):
    (copy / "digits/fast/seed0/train.json").write_text("{}")
    edit(copy / "digits/pgd-7/seed0/evaluate/clean.json", weights_sha256="e" * 64)
    status, out, err = ran(capsys, original, copy)
    assert status == 2
    assert "fast/seed0/train.json: kind" in err
    assert "pgd-7/seed0/evaluate/clean.json: weights_sha256" in err
    assert out.count("identical") == 3 * 4 + 3


def test_a_run_in_another_run_s_folder_is_not_taken_for_it(original, copy):
    shutil.copytree(copy / "digits/fast/seed0", copy / "digits/fast/seed7")
    problems = []
    runs = read_folder(copy, problems)
    assert len(problems) == 1
    assert "seed7/train.json" in problems[0]
    assert not compare(read_folder(original, []), runs).is_changed


def test_runs_that_collapsed_in_both_are_in_no_mean(capsys, original, copy):
    both = [Path(shutil.copytree(original, copy.parent / side / "quick")) for side in "ab"]
    for folder in both:
        edit(folder / "digits/fast/seed0/train.json", status="collapsed", status_epoch=2, status_reason="it fell")
    status, out, _ = ran(capsys, *both)
    assert status == 0
    lines = [line.split() for line in out.splitlines() if line.startswith("fast ")]
    assert {line[2] for line in lines if line[1] in ("clean", "pgd-20")} == {"2"}


def test_runs_that_collapsed_in_both_and_are_not_the_same_could_not_be_tested(capsys, original, copy):
    both = [Path(shutil.copytree(original, copy.parent / side / "quick")) for side in "ab"]
    trained_again(both[1])
    for folder in both:
        for seed in range(3):
            path = folder / f"digits/fast/seed{seed}/train.json"
            edit(path, status="collapsed", status_epoch=2, status_reason="it fell")
    status, out, _ = ran(capsys, *both)
    assert status == 0
    assert "not tested: digits fast seed 1: collapsed in both\n" in out
    assert out.endswith("\n3 comparisons could not be tested.\n")
    assert "Nothing changed beyond noise" in ran(capsys, both[0], both[0])[1]
