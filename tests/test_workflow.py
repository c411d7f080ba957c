"""What a user of `snakemake` may rely on, in a copy of the project with a suite of seconds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from experiment.lock import exclusive
from experiment.provenance import ROOMS

pytestmark = pytest.mark.workflow
ROOT = Path(__file__).resolve().parent.parent
CIFAR10 = ROOT / "data" / "cifar-10-batches-py"
PARTS = ("Snakefile", "CITATION.cff", "configs", "profiles", "rules", *ROOMS)
TINY = {
    "suite": "tiny",
    "datasets": ["digits"],
    "network": {"name": "small_cnn"},
    "threat": {"eps": 0.1},
    "training": {
        "epochs": 2,
        "batch_size": 64,
        "lr": 0.05,
        "validation_images": 100,
        "validation_steps": 2,
        "max_train_images": 128,
    },
    "evaluation": {"max_test_images": 40, "attacks": ["clean", "pgd-3", {"name": "autoattack", "images": 3}]},
    "seeds": [0],
    "variants": [
        {"label": "fast", "method": "fast"},
        {"label": "fast+mplus", "method": "fast", "steps": {"rule": "mplus"}, "base": "fast"},
        {"label": "pgd-2", "method": "pgd", "steps": {"steps": 2}},
    ],
}


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder / part)

    def suite(self, **changes) -> Path:
        path = self.folder / "tiny.yaml"
        content = {key: value for key, value in {**TINY, **changes}.items() if value is not None}
        path.write_text(yaml.safe_dump(content))
        return path

    def snakemake(self, *arguments: str, configfile: str | None = "tiny.yaml") -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *(["--configfile", configfile] if configfile else []), *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )

    def planned(self) -> set[str]:
        """The jobs that `snakemake -n` lists, by their messages."""
        done = self.snakemake("-n")
        assert done.returncode == 0, done.stdout
        lines = (done.stdout).splitlines()
        return {line.partition(": ")[2] for line in lines if line.startswith("Job ") and ": " in line}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose tiny suite has been run, with what the terminal showed."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.suite()
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    project.output = done.stdout
    return project


def test_the_default_suite_is_quick_and_takes_no_flag(tmp_path):
    done = Project(tmp_path).snakemake("-n", configfile=None)
    assert done.returncode == 0, done.stdout
    assert "collate results/quick" in done.stdout
    assert "train digits deat+mplus seed 2" in done.stdout


def test_to_say_what_is_to_be_done_needs_no_torch(tmp_path):
    project = Project(tmp_path)
    (tmp_path / "torch.py").write_text("raise RuntimeError('importing it takes seconds')\n")
    assert "train digits deat+mplus seed 2" in project.snakemake("-n", configfile=None).stdout
    project.suite()
    assert project.planned()


def test_a_suite_ends_in_tables_and_plots_of_every_variant(finished):
    results = finished.folder / "results" / "tiny"
    runs = pd.read_csv(results / "runs.csv")
    assert set(runs["variant"]) == {"fast", "fast+mplus", "pgd-2"}
    assert set(runs["attack"]) == {"clean", "pgd-3", "autoattack"}
    assert runs["accuracy"].between(0, 1).all()
    for table in ("robustness", "cost", "effect"):
        for kind in ("csv", "md", "tex"):
            assert (results / "tables" / f"{table}.{kind}").stat().st_size > 0
    plots = {path.name for path in (results / "plots").iterdir()}
    assert {"accuracy_vs_seconds.svg", "accuracy_vs_passes.png", "training.svg"} <= plots


def test_the_terminal_says_what_runs_how_much_is_done_and_ends_with_the_table(finished):
    assert "train digits fast seed 0" in finished.output
    assert "steps (" in finished.output
    tail = finished.output.rpartition("100%")[2]
    for variant in ("fast+mplus", "pgd-2"):
        assert variant in tail
    assert "results/tiny" in tail


def test_the_passes_in_a_record_are_those_of_the_method(finished):
    record = json.loads((finished.folder / "results/tiny/digits/pgd-2/seed0/train.json").read_text())
    assert record["cost"]["passes"] == 2 * (2 + 1)  # epochs x (attack steps + update)


def test_nothing_is_left_to_do_after_a_run_or_a_touch(finished):
    (finished.folder / "methods" / "fast" / "method.py").touch()
    (finished.folder / "methods" / "pgd" / "README.md").write_text("edited\n")
    (finished.folder / "reporting" / "plots" / "__init__.py").open("a").write("\n")
    assert finished.planned() == set()


def test_editing_a_method_lists_its_runs_and_nothing_else(finished):
    file = finished.folder / "methods" / "fast" / "method.py"
    original = file.read_text()
    try:
        file.write_text(original + "\n# edited\n")
        planned = finished.planned()
    finally:
        file.write_text(original)
    assert {job for job in planned if job.startswith("train")} == {
        "train digits fast seed 0",
        "train digits fast+mplus seed 0",
    }
    assert not any("pgd-2" in job for job in planned)


def test_editing_the_epochs_of_a_suite_lists_all_its_runs(finished):
    finished.suite(training={**TINY["training"], "epochs": 3})
    try:
        planned = finished.planned()
    finally:
        finished.suite()
    assert len([job for job in planned if job.startswith("train")]) == 3


def test_a_new_seed_and_a_new_attack_add_only_their_own_jobs(finished):
    finished.suite(seeds=[0, 1])
    more_seeds = finished.planned()
    finished.suite(evaluation={**TINY["evaluation"], "attacks": [*TINY["evaluation"]["attacks"], "margin-3"]})
    more_attacks = finished.planned()
    finished.suite()
    assert more_seeds
    assert all("seed 1" in job for job in more_seeds if job.startswith(("train", "evaluate")))
    assert not any(job.startswith("train") for job in more_attacks)
    assert len([job for job in more_attacks if job.startswith("evaluate")]) == 3


def test_a_copied_method_folder_runs_with_no_other_edit(finished):
    shutil.copytree(finished.folder / "methods" / "fast", finished.folder / "methods" / "mine")
    finished.suite(variants=[*TINY["variants"], {"label": "mine", "method": "mine"}])
    try:
        done = finished.snakemake()
    finally:
        finished.suite()
    assert done.returncode == 0, done.stdout
    runs = pd.read_csv(finished.folder / "results/tiny/runs.csv").set_index(["variant", "attack"])["correct"]
    assert (runs["mine"] == runs["fast"]).all()  # the same code, seed and data give the same verdicts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "seeds"),
        ({"threat": {"eps": 8}}, "(0, 1]"),
        ({"variants": [{"label": "a", "method": "nope"}]}, "nope"),
        ({"variants": [{"label": "a", "method": "fast", "options": {"start": "Random"}}]}, "random, zero, previous"),
        ({"suite": None}, "suite"),
        ({"variants": [{"label": "a", "method": "two"}]}, "exactly one"),
        ({"variants": [{"label": "a", "method": "none"}]}, "exactly one"),
        ({"variants": [{"label": "a", "method": "exits"}]}, "methods/exits/method.py"),
    ],
)
@pytest.mark.fault("input")
def test_bad_input_is_one_sentence_before_any_training(tmp_path, change, message):
    project = Project(tmp_path)
    for name, body in (
        ("two", "class A(Method): pass\nclass B(Method): pass\n"),
        ("none", ""),
        ("exits", "raise SystemExit(0)\n"),
    ):
        folder = project.folder / "methods" / name
        shutil.copytree(project.folder / "methods" / "pgd", folder)
        (folder / "method.py").write_text("from methods import Method\n" + body)
    project.suite(**change)
    done = project.snakemake()
    assert done.returncode != 0
    errors = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stdout
    assert not (project.folder / "results").exists()


@pytest.mark.timeout(600)
@pytest.mark.skipif(not CIFAR10.is_dir(), reason="no CIFAR-10: unpack cifar-10-python.tar.gz in data/")
def test_the_smoke_suite_trains_and_attacks_the_real_network_on_real_images(tmp_path):
    project = Project(tmp_path)
    (project.folder / "data").mkdir()
    (project.folder / "data" / CIFAR10.name).symlink_to(CIFAR10)
    done = project.snakemake(configfile="configs/smoke.yaml")
    assert done.returncode == 0, done.stdout
    runs = pd.read_csv(project.folder / "results/smoke/runs.csv")
    assert len(runs) == 2 * 3
    assert runs["accuracy"].between(0, 1).all()
    spent = runs.drop_duplicates("variant").set_index("variant")["passes"]
    assert spent.to_dict() == {"fast": 2 * 2, "fast+mplus": 1 + 2}


def test_two_snakemakes_do_not_work_on_one_suite_at_a_time(tmp_path):
    project = Project(tmp_path)
    project.suite()
    with exclusive(project.folder / "results" / "tiny" / ".lock"):
        done = project.snakemake()
    assert done.returncode != 0
    assert "another process is at work on results/tiny" in done.stdout
    assert not (project.folder / "results" / "tiny" / "digits").exists()


def test_a_failing_run_leaves_the_others_and_the_tables_name_what_is_missing(tmp_path):
    project = Project(tmp_path)
    broken = project.folder / "methods" / "broken"
    shutil.copytree(project.folder / "methods" / "fast", broken)
    code = (broken / "method.py").read_text()
    start = "        delta = self.ascent("
    assert start in code
    fails = code.replace(start, f"        raise OSError(28, 'No space left on device')\n{start}")
    (broken / "method.py").write_text(fails)
    project.suite(variants=[{"label": "broken", "method": "broken"}, {"label": "fast", "method": "fast"}])
    done = project.snakemake()
    assert done.returncode != 0
    assert "error: digits/broken/seed0: No space left on device" in done.stdout
    assert "Traceback" not in done.stdout
    assert "missing: broken seed 0" in done.stdout
    assert set(pd.read_csv(project.folder / "results/tiny/runs.csv")["variant"]) == {"fast"}


def test_a_damaged_data_file_is_named_before_any_training(tmp_path):
    project = Project(tmp_path)
    project.suite()
    raw = project.folder / "data" / "cifar-10-batches-py" / "data_batch_1"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"not CIFAR-10")
    prepared = project.folder / "data" / "prepared" / "digits" / "test.safetensors"
    prepared.parent.mkdir(parents=True)
    prepared.write_bytes(b"not digits")
    for datasets, named in ((["digits"], "test.safetensors"), (["cifar10"], "data_batch_1")):
        project.suite(datasets=datasets)
        done = project.snakemake()
        assert done.returncode != 0
        (error,) = [line for line in done.stdout.splitlines() if line.startswith("error:")]
        assert named in error
        assert not (project.folder / "results").exists()
