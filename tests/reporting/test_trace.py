"""Every cell of every table can be traced to the records behind it."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest
from synthetic import VARIANTS, edit, made_up_suite, robust_images, write_results, write_verdicts

from analysis.results import collate
from experiment.errors import UserError
from experiment.suite import ROOT
from reporting import tables
from reporting.trace import main, trace

pytestmark = pytest.mark.slow

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast")}
REFERENCE = ["--results", str(ROOT / "results" / "reference")]


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, seeds=(0, 1), epochs=4)


@pytest.fixture
def folder(tmp_path, suite):
    return write_results(tmp_path, suite, variants=FEW)


def traced(suite, folder, table, variant, column=None):
    return list(trace(suite, folder, table, variant, column, "snakemake"))


def facts(lines, name):
    return [line.partition(name)[2].strip() for line in lines if line.strip().startswith(f"{name} ")]


def test_a_cell_of_the_robustness_table_is_traced_to_what_its_records_say(folder, suite):
    lines = traced(suite, folder, "robustness", "pgd-7", "autoattack")
    (table, *_) = tables.build(suite, collate(suite, folder).runs)
    assert lines[0] == f"robustness, pgd-7, autoattack: {table.shown.set_index('variant').loc['pgd-7', 'autoattack']}"
    for seed in (0, 1):
        place = folder / f"digits/pgd-7/seed{seed}"
        train = json.loads((place / "train.json").read_text())
        found = json.loads((place / "evaluate/autoattack.json").read_text())
        start = lines.index(f"digits seed {seed}")
        text = "\n".join(lines[start : lines.index("digits seed 1") if seed == 0 else None])
        assert f"{found['correct']} of 128 images, {found['accuracy']:.2%}" in text
        for part in (train["weights_sha256"], "train.json", "evaluate/autoattack.json", "autoattack.robust.npy"):
            assert part in text
        for part in ("0" * 40, "0" * 64, "1" * 64, "2" * 64, "torch 2.15.0", "2 threads", "fp32", "2026-01-01"):
            assert text.count(part) >= 2  # of the training and of the evaluation
        for record in ("train.json", "evaluate/autoattack.json"):
            file = f"results/quick/digits/pgd-7/seed{seed}/{record}"
            assert f"rm -f {file} && snakemake {file}" in text
        assert "step_size 0.025" in text
    assert "fast" not in "\n".join(lines[2:])
    assert "pgd-20" not in "\n".join(lines[2:])


def test_without_a_column_every_column_is_traced(folder, suite):
    for table in ("robustness", "cost", "effect"):
        made = next(t for t in tables.build(suite, collate(suite, folder).runs) if t.name == table)
        lines = traced(suite, folder, table, "pgd+mplus")
        (shown,) = made.shown[made.shown["variant"] == "pgd+mplus"].to_dict("records")
        heads = [line for line in lines if line.startswith(f"{table}, ")]
        if table == "effect":  # the other attacks are on the page of Markdown, on demand
            (detail,) = made.detail[made.detail["variant"] == "pgd+mplus"].to_dict("records")
            shown = detail | shown
        numbers = {column for column in shown if re.match(r"[−+\d.]+ (±|\[)|\d\.", shown[column])}
        assert {line.split(", ")[2].partition(": ")[0] for line in heads} == numbers
        for line in heads:
            assert line.endswith(shown[line.split(", ")[2].partition(": ")[0]])


def test_a_cell_of_the_cost_table_is_traced_to_the_clock_and_the_counts_of_each_run(folder, suite):
    lines = traced(suite, folder, "cost", "fast", "seconds")
    for seed in (0, 1):
        cost = json.loads((folder / f"digits/fast/seed{seed}/train.json").read_text())["cost"]
        assert f"{cost['seconds']:.10g}" in facts(lines, "seconds")
        counts = f"{cost['compute']:.4g} epochs of compute, {cost['passes']:.4g} passes, {cost['updates']} updates"
        assert f"{cost['seconds']:.3f} s, {counts}" in facts(lines, "cost")
    assert not any("evaluate/" in line for line in lines)


def test_what_mplus_changes_is_traced_to_both_runs_of_each_pair_and_their_images(folder, suite):
    for label, correct in (("pgd-7", 200), ("pgd+mplus", 189)):
        write_verdicts(folder / f"digits/{label}/seed0/evaluate", "pgd-20", robust_images(360, correct))
    lines = traced(suite, folder, "effect", "pgd+mplus", "pgd-20")
    value = facts(lines, "pgd-20")[0]
    assert "200 of 360" in value
    assert "189 of 360" in value
    assert "right for one alone 11 and 0, McNemar p = 0.000977" in value
    for label in ("pgd-7", "pgd+mplus"):
        assert any(line.endswith(f"digits/{label}/seed1/evaluate/pgd-20.json") for line in lines)
    base, mplus = (
        json.loads((folder / f"digits/{label}/seed0/train.json").read_text())["cost"]["seconds"]
        for label in FEW
        if label != "fast"
    )
    faster = facts(traced(suite, folder, "effect", "pgd+mplus", "faster"), "seconds")[0]
    assert faster.endswith(f"= {base / mplus:.4f}")


def test_a_time_that_is_in_no_mean_is_said_to_be_left_out(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW)
    path = folder / "digits/pgd-7/seed1/train.json"
    provenance = json.loads(path.read_text())["provenance"]
    edit(path, provenance=provenance | {"hardware": provenance["hardware"] | {"label": "another"}})
    values = facts(traced(suite, folder, "effect", "pgd+mplus", "faster"), "seconds")
    assert ["left out" in value for value in values] == [False, True]


def test_what_failed_is_missing_or_is_doubtful_is_told(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, collapsed=[("fast", 0)], diverged=[("pgd-7", 1)])
    lines = "\n".join(traced(suite, folder, "robustness", "fast", "clean"))
    assert "robustness, fast, not collapsed, clean: " in lines
    assert "collapsed at epoch 2: PGD accuracy fell" in lines
    (folder / "digits/fast/seed1/evaluate/clean.json").unlink()
    edit(folder / "digits/fast/seed0/evaluate/clean.json", flags=["something new"])
    lines = traced(suite, folder, "robustness", "fast", "clean")
    assert "missing: fast seed 1 clean" in lines
    assert facts(lines, "flags") == ["something new"]
    assert facts(lines, "status")[0].endswith("suspect: clean warns: something new")
    assert "not evaluated, the run diverged" in facts(traced(suite, folder, "robustness", "pgd-7", "clean"), "clean")
    shutil.rmtree(folder / "digits/fast/seed1")
    lines = traced(suite, folder, "robustness", "fast", "clean")
    assert "no record" in facts(lines, "clean")
    assert "missing: fast seed 1 (not trained)" in lines


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (("accuracy", "pgd-7", None), "robustness, cost, effect"),
        (("literature", "pgd-7", None), "to trace; the tables are robustness, cost, effect"),
        (("robustness", "pgd-8", None), "pgd-7, pgd+mplus, fast"),
        (("robustness", "pgd-7", "pgd-10"), "clean, pgd-20, margin-20, autoattack"),
        (("cost", "pgd-7", "pgd-20"), "seconds, compute, passes"),
        (("effect", "pgd-7", None), "names no base"),
    ],
)
def test_a_cell_that_is_not_there_is_one_sentence_with_what_is(folder, suite, cell, says):
    with pytest.raises(UserError, match=re.escape(says)) as error:
        traced(suite, folder, *cell)
    assert "\n" not in str(error.value)


@pytest.mark.fault("input")
@pytest.mark.parametrize("table", ["robustness", "cost", "effect", "literature", "runs"])
@pytest.mark.parametrize("variant", ["pgd+mplus", "", "x" * 300])
def test_whatever_is_asked_for_is_traced_or_refused_in_one_sentence(folder, suite, table, variant):
    for column in (None, "clean", "seconds", "variant", ""):
        with suppress(UserError):  # whose text is one sentence
            assert traced(suite, folder, table, variant, column)


def test_the_command_traces_the_committed_results_whatever_folder_it_is_started_in(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["robustness", "pgd-7", "autoattack", *REFERENCE])
    lines = capsys.readouterr().out.splitlines()
    assert len(facts(lines, "record")) == 2 * 3
    assert all((tmp_path / record).is_file() for record in facts(lines, "record"))
    assert facts(lines, "again")[0] == (
        "rm -f results/quick/digits/pgd-7/seed0/train.json && snakemake results/quick/digits/pgd-7/seed0/train.json"
    )
    main(["robustness", "pgd-7", "autoattack", *REFERENCE, "--suite", str(ROOT / "configs" / "quick.yaml")])
    assert "snakemake --configfile" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--suite", "nope"], ["--results", "nowhere"]])
def test_the_command_ends_in_one_sentence_where_there_is_nothing(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["robustness", "pgd-7", *wrong])
    assert str(ended.value.code).startswith("error: ")
    assert "\n" not in str(ended.value.code)


def test_the_command_is_silent_when_its_reader_has_seen_enough():
    command = [sys.executable, "-m", "reporting.trace", "robustness", "pgd-7", *REFERENCE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
