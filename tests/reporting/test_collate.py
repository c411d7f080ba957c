import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from big_suite import measure
from synthetic import VARIANTS, changed, edit, made_up_suite, robust_images, write_results, write_verdicts

from analysis.results import collate
from analysis.statistics import wilson_interval
from experiment import files
from experiment.errors import UserError
from experiment.suite import ROOT, Suite
from reporting import collate as collating
from reporting.captions import describe_sources
from reporting.collate import main, report

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus")}


@pytest.fixture
def suite():
    return made_up_suite(FEW, seeds=(0, 1), epochs=4)


@pytest.fixture
def folder(tmp_path, suite):
    return write_results(tmp_path, suite, variants=FEW)


def contents(folder):
    """What a collation wrote, by path."""
    found = [folder / "runs.csv", *(folder / "tables").iterdir(), *(folder / "plots").iterdir()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.slow
def test_records_become_runs_tables_and_plots(folder, suite, capsys):
    assert report(suite, folder) == 0
    written = set(contents(folder))
    assert "runs.csv" in written
    for table in ("robustness", "cost", "effect"):
        assert {f"tables/{table}.{kind}" for kind in ("csv", "md", "tex")} <= written
    assert {"plots/accuracy_vs_seconds.svg", "plots/training.png"} <= written
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "missing" not in shown.out


@pytest.mark.slow
def test_runs_csv_has_one_row_a_run_and_attack_with_the_numbers_of_the_records(folder, suite):
    report(suite, folder)
    runs = pd.read_csv(folder / "runs.csv").set_index(["variant", "seed", "attack"])
    assert len(runs) == 2 * 2 * 4
    assert runs.index.is_unique
    for (variant, seed, attack), row in runs.iterrows():
        run = folder / "digits" / variant / f"seed{seed}"
        train = json.loads((run / "train.json").read_text())
        found = json.loads((run / "evaluate" / f"{attack}.json").read_text())
        assert row["accuracy"] == pytest.approx(found["accuracy"])
        assert [row["interval_low"], row["interval_high"]] == pytest.approx(
            wilson_interval(found["correct"], found["images"])
        )
        assert (row["images"], row["correct"]) == (found["images"], found["correct"])
        if attack in ("clean", "autoattack"):
            assert row[["attack_steps", "attack_step_size", "attack_restarts"]].isna().all()
        else:
            assert (row["attack_steps"], row["attack_step_size"], row["attack_restarts"]) == (20, 0.025, 1)
        assert row["evaluation_seconds"] == found["seconds"]
        for cost in ("seconds", "compute", "passes", "peak_memory_bytes"):
            assert row[cost] == pytest.approx(train["cost"][cost])
        assert row["hardware"] == train["provenance"]["hardware"]["label"]
        assert row["evaluated_epoch"] == train["epochs"]["evaluated"]
        assert row["method"] == "pgd"


@pytest.mark.slow
def test_the_terminal_shows_the_table_in_columns_and_says_where_everything_lies(folder, suite, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    report(suite, folder)
    shown = capsys.readouterr().out
    header, rule, *lines = shown.splitlines()
    assert header.split()[0] == "variant"
    assert {len(line) for line in (header, rule, *lines[: len(FEW)])} == {len(rule)}
    assert [line.split()[0] for line in lines[: len(FEW)]] == list(FEW)
    assert "quick/runs.csv" in shown
    assert str(folder.parent) not in shown


@pytest.mark.slow
def test_what_is_missing_is_named_and_is_no_error_and_no_zero(folder, suite, capsys):
    (folder / "digits/pgd-7/seed1/evaluate/autoattack.json").unlink()
    (folder / "digits/pgd+mplus/seed0/train.json").unlink()
    assert report(suite, folder) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "missing: pgd-7 seed 1 autoattack" in shown
    assert "missing: pgd+mplus seed 0 (not trained)" in shown
    runs = pd.read_csv(folder / "runs.csv").set_index(["variant", "seed", "attack"])
    assert runs.loc[("pgd-7", 1, "autoattack"), "evaluation_status"] == "missing"
    assert pd.isna(runs.loc[("pgd-7", 1, "autoattack"), "accuracy"])
    assert ("pgd+mplus", 0, "clean") not in runs.index


def test_a_diverged_run_has_rows_without_accuracy(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, diverged=[("pgd-7", 0)])
    runs = collate(suite, folder).runs
    rows = runs[(runs["variant"] == "pgd-7") & (runs["seed"] == 0)]
    assert set(rows["status"]) == {"diverged"}
    assert set(rows["evaluation_status"]) == {"not-evaluated"}
    assert rows["accuracy"].isna().all()


def spoil(path, how):
    if how == "cut off":
        path.write_text(path.read_text()[:100])
    elif how == "no text":
        path.write_bytes(b"\xff\xfe\x00")
    elif how == "deep":
        path.write_text("[" * 100_000)
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "no JSON object":
        path.write_text("[]")
    else:
        edit(path, **how)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "how", "says"),
    [
        ("evaluate/pgd-20.json", "cut off", "JSON"),
        ("evaluate/pgd-20.json", "no JSON object", "kind"),
        ("evaluate/pgd-20.json", {"accuracy": None}, "accuracy"),
        ("evaluate/pgd-20.json", {"accuracy": 51.9}, "accuracy"),
        ("evaluate/pgd-20.json", {"accuracy": 0.25}, "accuracy is 0.25"),
        ("evaluate/pgd-20.json", {"accuracy": math.nan}, "NaN"),
        ("evaluate/pgd-20.json", "a folder", "not readable"),
        ("evaluate/pgd-20.json", "deep", "JSON"),
        ("evaluate/pgd-20.json", {"attack": "pgd-7"}, "attack"),
        ("evaluate/pgd-20.json", {"weights_sha256": "0" * 64}, "weights_sha256"),
        ("evaluate/pgd-20.json", {"status": "not-evaluated"}, "status"),
        ("train.json", "cut off", "JSON"),
        ("train.json", "no text", "JSON"),
        ("train.json", {"cost": {"seconds": 1.0}}, "cost"),
        ("train.json", {"seed": 1}, "seed"),
        ("train.json", {"suite": "other"}, "suite"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_with_its_field(folder, suite, file, how, says):
    path = folder / "digits/pgd-7/seed0" / file
    spoil(path, how)
    found = collate(suite, folder)
    (problem,) = found.problems
    assert "\n" not in problem
    assert str(path) in problem
    assert says in problem.replace(str(path), "")
    assert (found.runs["evaluation_status"] == "ok").sum() == 16 - (1 if file.startswith("evaluate") else 4)


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        (None, "No such file"),
        (np.zeros(0), "float64"),
        (robust_images(359, 180), "359"),
        (robust_images(360, 3), "3 images robust"),
        (np.array([{}]), "object"),
        ("cut off", "in 172 bytes"),
        ("empty", "not readable"),
        ("an archive", "not readable"),
    ],
)
def test_verdicts_that_do_not_match_their_record_are_named_and_the_number_is_not_used(folder, suite, verdicts, says):
    path = folder / "digits/pgd-7/seed0/evaluate/pgd-20.robust.npy"
    content = path.read_bytes()
    path.unlink()
    if isinstance(verdicts, np.ndarray):
        np.save(path, verdicts, allow_pickle=True)
    elif verdicts == "an archive":
        with open(path, "wb") as file:
            np.savez(file, np.zeros(360, bool))
    elif verdicts is not None:
        path.write_bytes(content[:300] if verdicts == "cut off" else b"")
    found = collate(suite, folder)
    (problem,) = found.problems
    assert "\n" not in problem
    assert str(path) in problem
    assert says in problem.replace(str(path), "")
    assert found.missing == ["pgd-7 seed 0 pgd-20"]


@pytest.mark.slow
def test_why_a_run_is_suspect_is_in_every_row_of_it_and_in_no_other(folder, suite):
    edit(folder / "digits/pgd-7/seed0/evaluate/pgd-20.json", flags=["something new"])
    report(suite, folder)
    runs = pd.read_csv(folder / "runs.csv", keep_default_na=False)
    ours = (runs["variant"] == "pgd-7") & (runs["seed"] == 0)
    assert set(runs[ours]["suspect"]) == {"pgd-20 warns: something new"}
    assert set(runs[~ours]["suspect"]) == {""}


@pytest.mark.slow
def test_the_command_fails_over_a_record_that_cannot_be_used_but_collates_the_rest(folder, suite, capsys):
    spoil(folder / "digits/pgd-7/seed0/evaluate/clean.json", "cut off")
    assert report(suite, folder) == 1
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ")
    assert "missing: pgd-7 seed 0 clean" in shown.out
    assert (pd.read_csv(folder / "runs.csv")["evaluation_status"] == "ok").sum() == 15
    assert "plots/accuracy_vs_seconds.svg" in contents(folder)


@pytest.mark.parametrize(
    "content", [None, "epoch,steps\n0,1\n", "epoch,steps,magnitude,validation_pgd_accuracy\n0,x,,1\n"]
)
def test_an_unusable_epochs_file_is_named_and_the_accuracies_are_kept(folder, suite, content):
    path = folder / "digits/pgd-7/seed0/epochs.csv"
    path.unlink() if content is None else path.write_text(content)
    found = collate(suite, folder)
    (problem,) = found.problems
    assert str(path) in problem
    assert (found.runs["evaluation_status"] == "ok").all()
    assert len(found.epochs) == 3 * 4


@pytest.mark.slow
def test_many_unusable_files_are_not_all_listed(folder, suite, capsys, monkeypatch):
    monkeypatch.setattr(collating, "LINES_SHOWN", 2)
    for path in folder.rglob("seed0/evaluate/*.json"):
        spoil(path, "cut off")
    assert report(suite, folder) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "6 more" in last


def test_nothing_to_collate_is_an_error_that_says_what_to_do(tmp_path, suite):
    with pytest.raises(UserError, match="snakemake"):
        collate(suite, tmp_path / "quick")


def test_runs_that_the_suite_does_not_name_are_left_out(folder, suite):
    fewer = changed(suite, seeds=[0], variants=suite.resolved["variants"][:1])
    assert len(collate(fewer, folder).runs) == 4


@pytest.mark.slow
def test_the_same_records_give_the_same_files(folder, suite):
    report(suite, folder)
    first = contents(folder)
    report(suite, folder)
    assert contents(folder) == first


@pytest.mark.slow
def test_a_plot_that_the_records_no_longer_support_is_taken_away(folder, suite):
    report(suite, folder)
    (folder / "plots" / "mine.svg").write_text("not ours")
    for path in folder.rglob("evaluate/autoattack.json"):
        path.unlink()
    report(suite, folder)
    left = {path.name for path in (folder / "plots").iterdir()}
    assert "accuracy_vs_seconds.svg" not in left
    assert {"training.svg", "mine.svg"} <= left


@pytest.mark.slow
def test_an_interrupted_collation_leaves_whole_files(folder, suite, monkeypatch):
    report(suite, folder)
    before = contents(folder)
    write_verdicts(folder / "digits/pgd-7/seed0/evaluate", "clean", robust_images(360, 1))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        report(suite, folder)
    assert contents(folder) == before


@pytest.mark.slow
def test_the_command_collates_the_suite_given_by_path_or_on_standard_input(tmp_path, capsys, monkeypatch):
    path = ROOT / "configs" / "quick.yaml"
    suite = Suite.load(path)
    assert {variant.label for variant in suite.variants} == set(VARIANTS)
    folder = write_results(tmp_path, changed(suite, seeds=suite.seeds[:1]))
    monkeypatch.setattr(collating.plots, "draw", lambda *_: {})
    assert main([str(path), "--results", str(tmp_path)]) == 0
    by_path = capsys.readouterr().out
    assert "missing: deat+mplus seed 2 (not trained)" in by_path
    table = (folder / "runs.csv").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path(path).read_bytes())))
    assert main(["-", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == by_path
    assert (folder / "runs.csv").read_bytes() == table


def test_the_command_ends_in_one_sentence_where_there_is_nothing(tmp_path):
    with pytest.raises(SystemExit) as ended:
        main([str(ROOT / "configs" / "quick.yaml"), "--results", str(tmp_path)])
    assert str(ended.value.code).startswith("error: ")
    assert "\n" not in str(ended.value.code)


@pytest.mark.slow
def test_a_big_suite_is_collated_whole_and_within_its_memory(tmp_path):
    """A fifteenth of what tests/big_suite.py measures, which is to take 1 GB."""
    said = measure(tmp_path, variants=21, datasets=("digits",), seeds=1, images=10_000, epochs=50)
    assert (said["runs"], said["problems"]) == (21, 0)
    assert said["peak MiB"] < 1000


@pytest.mark.fault("data")
@pytest.mark.parametrize("file", ["train.json", "evaluate/pgd-20.json"])
def test_a_record_of_other_data_than_the_data_sets_is_named_and_left_out(folder, suite, file):
    edit(folder / "digits/pgd-7/seed0" / file, data_sha256="4" * 64)
    collation = collate(suite, folder)
    (problem,) = collation.problems
    assert f"pgd-7/seed0/{file}: data_sha256 is '4444" in problem
    assert len(collation.missing) == 1


@pytest.mark.fault("data")
def test_records_of_different_data_are_said_to_be_where_the_data_sets_digest_is_not_known(tmp_path):
    suite = made_up_suite(FEW, datasets=("cifar100",), seeds=(0, 1), epochs=4, network="preact_resnet18")
    folder = write_results(tmp_path, suite, variants=FEW)
    assert not any("images of cifar100" in sentence for sentence in describe_sources(collate(suite, folder).runs))
    edit(folder / "cifar100/pgd-7/seed0/train.json", data_sha256="4" * 64)
    edit(folder / "cifar100/pgd-7/seed0/evaluate/pgd-20.json", data_sha256="5" * 64)
    sentences = describe_sources(collate(suite, folder).runs)
    for split, other in (("training", "444444444444"), ("test", "555555555555")):
        (sentence,) = (s for s in sentences if s.startswith(f"The {split} images of cifar100 were not the same"))
        assert f"{other} (1 record)" in sentence
