"""The same command finishes the work, whatever happened to it, and makes nothing again without need."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from test_workflow import TINY, Project

pytestmark = pytest.mark.workflow
RUN = "results/tiny/digits/{}/seed0"
RUNS = ("fast", "fast+mplus", "pgd-2")
SLOW = {"training": {**TINY["training"], "epochs": 30}}  # long enough to be interrupted


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("finished"))
    project.suite()
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project as `cp -r` makes it: other times, and nothing that Snakemake noted for itself."""
    shutil.copytree(
        finished.folder, tmp_path / "copy", ignore=shutil.ignore_patterns(".snakemake"), copy_function=_copy
    )
    copy = Project.__new__(Project)
    copy.folder = tmp_path / "copy"
    return copy


def _copy(source, target):
    shutil.copyfile(source, target)
    os.utime(target, (1e9 + hash(source) % 1e8,) * 2)


def jobs(planned, *kinds):
    return {job for job in planned if job.startswith(kinds)}


def outdated(planned):
    """Of runs and their attacks, what is there and is to be made again."""
    paths = {job.removeprefix("outdated ").partition(":")[0] for job in jobs(planned, "outdated")}
    return {path for path in paths if "/" in path and path.startswith("digits/")}


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def by_hand(project, stage):
    command = [sys.executable, "-m", f"reporting.{stage}", "tiny.yaml"]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True, timeout=120)


def assert_complete(project, runs=RUNS):
    for run in runs:
        folder = project.folder / RUN.format(run)
        for name in ("train.json", "epochs.csv", "model.safetensors"):
            assert (folder / name).stat().st_size
        for attack in ("clean", "pgd-3", "autoattack"):
            correct = json.loads((folder / "evaluate" / f"{attack}.json").read_text())["correct"]
            assert np.load(folder / "evaluate" / f"{attack}.robust.npy").sum() == correct
    assert len(pd.read_csv(project.folder / "results/tiny/runs.csv")) == 3 * len(runs)
    assert "not trained" not in (project.folder / "results/tiny/report.html").read_text()
    assert project.planned() == set()


@pytest.mark.fault("copy")
def test_copied_results_of_other_times_are_taken_as_they_are(project):
    assert project.planned() == set()


@pytest.mark.fault("copy")
@pytest.mark.fault("stale")
def test_of_copied_results_that_alone_is_made_again_which_other_things_made(project):
    results = project.folder / "results" / "tiny"
    attack = project.folder / RUN.format("fast") / "evaluate" / "pgd-3.json"
    original = attack.read_text()
    edit(attack, weights_sha256="0" * 64)
    planned = project.planned()
    assert jobs(planned, "train", "evaluate") == {"evaluate digits fast seed 0"}
    assert outdated(planned) == {"digits/fast/seed0/evaluate/pgd-3.json"}  # nothing else of it is made
    attack.write_text(original)
    edit(results / "digits/pgd-2/seed0/train.json", spec={})
    file = project.folder / "methods" / "fast" / "method.py"
    file.write_text(file.read_text() + "# edited\n")
    planned = project.planned()
    assert len(jobs(planned, "train")) == 3
    assert len(jobs(planned, "evaluate")) == 3
    assert any("the sources of method fast" in job for job in planned)  # and the user is told why
    forced = project.snakemake("-n", "-R", "report")  # which leaves out nothing that is outdated
    assert forced.stdout.count(": train ") == 3, forced.stdout
    assert json.loads(attack.read_text())  # while nothing is deleted before it is replaced


@pytest.mark.fault("stale")
def test_another_key_of_the_protocol_trains_copied_results_again_and_another_attack_attacks_them_again(project):
    project.suite(training={**TINY["training"], "lr": 0.04})
    assert len(jobs(project.planned(), "train")) == 3
    project.suite(
        evaluation={
            **TINY["evaluation"],
            "attacks": ["clean", {"name": "pgd-3", "restarts": 2}, {"name": "autoattack", "images": 3}],
        }
    )
    planned = project.planned()
    assert not jobs(planned, "train")
    assert outdated(planned) == {f"digits/{run}/seed0/evaluate/pgd-3.json" for run in RUNS}
    project.suite(evaluation={**TINY["evaluation"], "equivalence_margin": 0.5})
    planned = project.planned()
    assert "collate results/tiny" in planned
    assert not jobs(planned, "train", "evaluate")


@pytest.mark.fault("restart")
def test_what_is_deleted_damaged_or_made_by_hand_in_between_is_made_and_nothing_else(project):
    results = project.folder / "results" / "tiny"
    (results / "digits/fast/seed0/evaluate/pgd-3.robust.npy").unlink()
    (results / "digits/fast/seed0/evaluate/clean.robust.npy").write_bytes(b"damaged")
    (results / "digits/fast+mplus/seed0/epochs.csv").unlink()
    shutil.rmtree(results / "digits/pgd-2")
    (results / "tables/cost.md").unlink()
    by_hand(project, "collate")
    assert by_hand(project, "page").returncode == 0
    assert "not trained" in (results / "report.html").read_text()  # it says that it is not the end
    planned = project.planned()
    assert jobs(planned, "train") == {"train digits fast+mplus seed 0", "train digits pgd-2 seed 0"}
    assert "evaluate digits fast seed 0" in planned
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert "evaluated digits/fast+mplus/seed0 pgd-3: it was already" in done.stdout  # the same weights came out
    attacked = re.findall(r"evaluated digits/fast/seed0 (\S+): (it was already)?", done.stdout)
    assert dict(attacked) == {"clean": "", "pgd-3": "", "autoattack": "it was already"}
    assert_complete(project)


@pytest.mark.fault("restart")
def test_a_stage_that_fails_leaves_what_was_there_and_is_done_by_the_same_command_when_it_is_mended(project):
    results, stage = project.folder / "results" / "tiny", project.folder / "reporting" / "plots" / "__init__.py"
    kept = {path: path.read_bytes() for name in ("tables", "plots") for path in (results / name).iterdir()}
    code = stage.read_text()
    stage.write_text(code + "\nraise OSError(28, 'No space left on device')\n")
    (results / "report.html").write_text("edited")
    assert project.snakemake().returncode != 0
    assert {path: path.read_bytes() for path in kept} == kept
    stage.write_text(code)
    assert project.snakemake().returncode == 0
    assert_complete(project)


@pytest.mark.fault("restart")
def test_interrupted_by_whatever_signal_the_same_command_finishes_the_work(tmp_path):
    project = Project(tmp_path)
    project.suite(**SLOW)
    for name, signals, stop in (
        ("fast", signal.SIGINT, os.killpg),
        ("fast+mplus", signal.SIGTERM, os.kill),
        ("pgd-2", signal.SIGKILL, os.killpg),
    ):
        running = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml"],
            cwd=project.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        begun, deadline = project.folder / RUN.format(name) / "train.log", time.monotonic() + 120
        while not begun.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running.poll() is None
        stop(running.pid, signals)
        assert running.wait(timeout=120) != 0
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert_complete(project)


@pytest.mark.fault("restart")
def test_a_run_that_failed_is_done_by_the_same_command_when_it_is_mended(tmp_path):
    project = Project(tmp_path)
    broken = project.folder / "methods" / "broken"
    shutil.copytree(project.folder / "methods" / "fast", broken)
    code = (broken / "method.py").read_text()
    start = "        delta = self.ascent("
    assert start in code
    fails = code.replace(start, f"        raise OSError(28, 'No space left on device')\n{start}")
    (broken / "method.py").write_text(fails)
    project.suite(variants=[{"label": "broken", "method": "broken"}, TINY["variants"][0]])
    assert project.snakemake().returncode != 0
    assert "not trained" in (project.folder / "results/tiny/report.html").read_text()
    assert project.snakemake().returncode != 0  # still
    (broken / "method.py").write_text(code)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert_complete(project, ["broken", "fast"])


@pytest.mark.fault("restart")
def test_an_attack_that_fails_keeps_the_others_from_nothing_and_is_made_alone_when_it_is_mended(project):
    file = project.folder / "evaluation" / "attacks" / "fgsm.py"
    usual = file.read_text()
    file.write_text(
        usual.replace("    def search(", "    def search(self, *_):\n        raise OSError(5, 'No')\n\n    def usual(")
    )
    assert file.read_text() != usual
    attacks = ["clean", "fgsm", "pgd-3", "pgd-4"]
    for images in (40, 39):  # there is no record of pgd-4 yet; then all there are must be made again
        project.suite(evaluation={"attacks": attacks, "max_test_images": images})
        done = project.snakemake()
        assert done.returncode != 0
        assert done.stdout.count("fgsm: No") == 3, done.stdout
        runs = pd.read_csv(project.folder / "results/tiny/runs.csv").set_index("attack")
        assert set(runs.loc[["clean", "pgd-3", "pgd-4"], "images"]) == {images}
        assert runs.loc["fgsm", "accuracy"].isna().all()
    file.write_text(usual)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"evaluated \S+ fgsm: \d", done.stdout)) == 3
    assert len(re.findall(r"evaluated \S+ (?:clean|pgd-3|pgd-4): it was already", done.stdout)) == 9


@pytest.mark.fault("stale")
def test_two_files_of_one_name_do_not_replace_each_others_results_but_a_suite_may_be_edited(project):
    shutil.copy(project.folder / "tiny.yaml", project.folder / "configs" / "other.yaml")
    done = project.snakemake("-n", configfile="configs/other.yaml")
    assert done.returncode != 0
    (error,) = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    assert "configs/other.yaml" in error
    assert "tiny.yaml" in error
    assert "suite.yaml" in error
    own = project.snakemake("-n", configfile="results/tiny/suite.yaml")
    assert "Nothing to be done" in own.stdout, own.stdout


@pytest.mark.fault("restart")
@pytest.mark.fault("stale")
def test_any_one_thing_made_from_records_is_made_again_when_it_is_deleted_or_damaged(project):
    results = project.folder / "results" / "tiny"
    files = [path for path in results.glob("*") if path.is_file() and not path.name.startswith(".")]
    folders = [path for path in results.glob("*") if path.is_dir() and path.name not in ("digits", "logs")]
    products = [*files, *(max(folder.iterdir()) for folder in folders)]  # one a kind
    assert len(products) >= 8
    for path in products:
        content = path.read_bytes()
        for damage in (path.unlink, lambda path=path, content=content: path.write_bytes(content[:-2])):
            damage()
            planned = project.planned()
            assert planned, path
            assert not jobs(planned, "train", "evaluate")
            path.write_bytes(content)
    (results / "runs.csv").unlink()
    (results / "suite.yaml").unlink()
    project.suite(evaluation={**TINY["evaluation"], "attacks": [*TINY["evaluation"]["attacks"], "fgsm"]})
    assert len(jobs(project.planned(), "evaluate")) == 3  # what else changes is noticed as ever
    project.suite()
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert_complete(project)


@pytest.mark.fault("restart")
@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_damaged_weights_are_found_though_nothing_is_to_be_attacked_and_the_run_is_made_again(project, damage):
    file, other = (project.folder / RUN.format(run) / "model.safetensors" for run in ("fast", "pgd-2"))
    assert project.planned() == set()
    content = bytearray(file.read_bytes())
    damaged = {"cut": content[:-1], "flip": content[:-1] + bytes([content[-1] ^ 1]), "other": other.read_bytes()}[
        damage
    ]
    file.write_bytes(damaged)
    assert jobs(project.planned(), "train") == {"train digits fast seed 0"}
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert file.read_bytes() == content
    assert_complete(project)


@pytest.mark.fault("restart")
def test_a_suite_s_copy_alone_is_written_again(project):
    copy = project.folder / "results" / "tiny" / "suite.yaml"
    content = copy.read_text()
    copy.unlink()
    (planned,) = project.planned() - {"all results are in results/tiny"}
    assert planned.startswith("outdated suite.yaml: ")
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert copy.read_text() == content
    assert project.planned() == set()
