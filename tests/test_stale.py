"""What an edit makes stale: exactly what the edited file made. One file of every room and of every kind of plug-in."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import tiny
import yaml

from experiment.consistency import reason_to_train
from experiment.datasets import digits
from experiment.provenance import ROOMS
from experiment.suite import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.fault("stale")]

PROTOCOL = {
    **{"epochs": 1, "batch_size": 16, "lr": 0.05, "schedule": {"milestones": [0.5]}},
    **{"validation_images": 20, "validation_steps": 1, "max_train_images": 32},
}
CYCLIC = {"schedule": {"name": "cyclic"}}
ADAMW = {"optimizer": {"name": "adamw"}, "lr": 0.001}
# By label: method, steps rule, and what differs in the protocol. OTHER is of another suite, norm and network.
VARIANTS = {
    "pgd": ("pgd", "constant", {}),
    "mplus": ("pgd", "mplus", {}),
    "mplus-2021": ("pgd", "mplus-2021", {}),
    "cyclic": ("pgd", "constant", CYCLIC),
    "adamw": ("pgd", "constant", ADAMW),
    "fast": ("fast", "constant", {}),
    "mine": ("mine", "constant", {}),
    "heir": ("heir", "constant", {}),
}
OTHER = "other"
ATTACKS = ["clean", "pgd-1", "margin-1", {"name": "square", "queries": 1}]
LABELS = ["clean", "pgd-1", "margin-1", "square"]
# A method with a helper three folders below it, one that inherits from it, and a network, each like one that is there.
ADDED = {
    "methods/mine/nets/__init__.py": "",
    "methods/mine/nets/deep/__init__.py": "",
    "methods/mine/nets/deep/tricks.py": "HELD = 0\n",
    "methods/mine/method.py": (ROOT / "methods/pgd/method.py").read_text() + "\n\nfrom .nets.deep import tricks\n",
    "methods/heir/method.py": "from methods.mine.method import PGD\n\n\nclass Heir(PGD):\n    pass\n",
}
COPIED = [
    ("methods/pgd/defaults.yaml", "methods/mine/defaults.yaml"),
    ("methods/pgd/defaults.yaml", "methods/heir/defaults.yaml"),
    ("experiment/models/small_cnn.py", "experiment/models/other_cnn.py"),
]

ALL = [*VARIANTS, OTHER]
BY_PGD = [OTHER, *(label for label, (method, *_) in VARIANTS.items() if method == "pgd")]


def but(*labels):
    return [label for label in ALL if label not in labels]


def trained(*labels):
    """Runs, and with them their unfinished ones."""
    return {"runs": {*labels}, "checkpoints": {*labels}}


def attacked(attacks=LABELS, runs=ALL):
    """Evaluations, and with them unfinished ones, of the suites' first runs."""
    names = [(run, attack) for run in runs for attack in attacks]
    first = [(run, attack) for run, attack in names if run in ("pgd", OTHER)]
    return {"evaluations": {*map(" ".join, names)}, "chunks": {*map(" ".join, first)}}


NOTHING = {}
UNFINISHED_RUNS = {"checkpoints": {*ALL}}  # what is finished stays: these make numbers for all, and may not cost all
UNFINISHED = UNFINISHED_RUNS | {"chunks": attacked()["chunks"]}
EDITS = {
    # What people read, what measures this suite itself, what Snakemake runs.
    "reporting/plots/pareto.py": NOTHING,
    "reporting/plots/style.py": NOTHING,
    "reporting/tables.py": NOTHING,
    "analysis/ranking.py": NOTHING,
    "analysis/digests.py": NOTHING,
    "benchmarks/training.py": NOTHING,
    "benchmarks/attacks.py": NOTHING,
    "rules/reporting.smk": NOTHING,
    "configs/quick.yaml": NOTHING,
    "results/reference/published.csv": {"tables": {"linf", "l2"}},
    # Methods.
    "methods/pgd/method.py": trained(*BY_PGD),
    "methods/pgd/defaults.yaml": trained(*BY_PGD),
    "methods/pgd/README.md": NOTHING,
    "methods/fast/method.py": trained("fast"),
    "methods/deat/method.py": NOTHING,
    "methods/mine/method.py": trained("mine", "heir"),
    "methods/mine/nets/deep/tricks.py": trained("mine", "heir"),
    "methods/heir/method.py": trained("heir"),
    "methods/method.py": trained(*ALL),
    "methods/new.py": NOTHING,
    # Steps rules.
    "steps/constant.py": trained(*but("mplus", "mplus-2021")),
    "steps/mplus.py": trained("mplus", "mplus-2021"),
    "steps/mplus_2021.py": trained("mplus-2021"),
    "steps/amata.py": NOTHING,
    "steps/rule.py": trained(*ALL),
    "steps/replay.py": NOTHING,
    # Training.
    "training/schedules/multistep.py": trained(*but("cyclic")),
    "training/schedules/cyclic.py": trained("cyclic"),
    "training/schedules/constant.py": NOTHING,
    "training/optimizers/sgd.py": trained(*but("adamw")),
    "training/sgd.py": trained(*but("adamw")),
    "training/optimizers/adamw.py": trained("adamw"),
    "training/adamw.py": trained("adamw"),
    "training/optimizers/lamb.py": NOTHING,
    "training/trainer.py": UNFINISHED_RUNS,
    "training/learner.py": UNFINISHED_RUNS,
    "training/run.py": NOTHING,
    # Networks, data sets and norms.
    "experiment/models/small_cnn.py": trained(*VARIANTS) | attacked(runs=VARIANTS),
    "experiment/models/other_cnn.py": trained(OTHER) | attacked(runs=[OTHER]),
    "experiment/models/vgg16_bn.py": NOTHING,
    "experiment/models/network.py": trained(*ALL) | attacked(),
    "experiment/threats/linf.py": trained(*VARIANTS) | attacked(runs=VARIANTS),
    "experiment/threats/l2.py": trained(OTHER) | attacked(runs=[OTHER]),
    "experiment/threats/threat.py": trained(*ALL) | attacked(),
    "experiment/datasets/digits.py": NOTHING,
    "experiment/datasets/dataset.py": UNFINISHED_RUNS,
    "experiment/data.py": NOTHING,
    "experiment/data_sources/npz.py": NOTHING,
    # Attacks.
    "evaluation/attacks/clean.py": attacked(["clean"]),
    "evaluation/attacks/pgd.py": attacked(["pgd-1", "margin-1"]),
    "evaluation/attacks/margin.py": attacked(["margin-1"]),
    "evaluation/attacks/square.py": attacked(["square"]),
    "evaluation/attacks/autoattack.py": NOTHING,
    "evaluation/package.py": attacked(["square"]),
    "evaluation/attacks/attack.py": attacked(),
    "evaluation/chunks.py": attacked(),
    "evaluation/verify.py": attacked(),
    "evaluation/fast_inference.py": attacked(),
    "evaluation/run.py": NOTHING,
    # What both stages rest on.
    "experiment/pgd.py": UNFINISHED_RUNS | attacked(),
    "experiment/attacks.py": attacked(),
    "experiment/precision.py": UNFINISHED,
    "experiment/plugins.py": UNFINISHED,
    "experiment/errors.py": UNFINISHED,
    "experiment/suite.py": NOTHING,
    "experiment/slots.py": NOTHING,
    "experiment/record.schema.yaml": NOTHING,
}


def suite(name, network, threat, variants):
    return {
        **{"suite": name, "datasets": ["digits"], "data_dir": "data", "network": {"name": network}, "threat": threat},
        **{"training": PROTOCOL, "evaluation": {"max_test_images": 4, "attacks": ATTACKS}, "seeds": [0]},
        "variants": [
            {"label": label, "method": method, "steps": {"rule": rule, **FEW.get(rule, {})}, "training": training}
            for label, (method, rule, training) in variants.items()
        ],
    }


FEW = {"constant": {"steps": 1}}


@pytest.fixture(scope="module")
def stale(tmp_path_factory):
    """What each edit made stale, by kind, in a copy of the project."""
    folder = tmp_path_factory.mktemp("project")
    for room in (*ROOMS, "rules", "configs"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "results" / "reference", folder / "results" / "reference", ignore=lambda *_: {"quick"})
    for name, text in ADDED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, copy in COPIED:
        shutil.copy(folder / name, folder / copy)
    linf = suite("linf", "small_cnn", {"eps": 0.1}, VARIANTS)
    l2 = suite("l2", "other_cnn", {"norm": "l2", "eps": 0.5}, {OTHER: ("pgd", "constant", {})})
    (folder / "edits.yaml").write_text(yaml.safe_dump([linf, l2]))
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "tests" / "edits.py", *EDITS]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("file", EDITS)
def test_an_edit_makes_stale_what_the_file_made_and_nothing_else(stale, file):
    assert {kind: {*names} for kind, names in stale[file].items()} == EDITS[file]


def test_every_room_is_edited():
    assert {*ROOMS} <= {file.partition("/")[0] for file in EDITS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A suite with one finished run, pgd under mplus on digits, and the folder of its files."""
    place = tmp_path_factory.mktemp("finished")
    made = tiny.suite(tiny.prepared_digits(place), rule="mplus")
    return made, tiny.train(made, place)


@pytest.mark.parametrize("fact", [{"mean": (0.5,)}, {"std": (0.5,)}, {"augmentation": "crop"}])
def test_other_facts_of_a_data_set_make_its_runs_stale(finished, monkeypatch, fact):
    made, folder = finished
    (run,) = made.runs()
    assert reason_to_train(made, run, folder) is None
    monkeypatch.setattr(digits, "DATASET", replace(digits.DATASET, **fact))
    said = "mean, std or augmentation of digits are not those that it was trained with"
    assert reason_to_train(made, run, folder) == said


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("method", "method pgd"),
        ("steps", "steps rule mplus"),
        ("schedule", "schedule multistep"),
        ("optimizer", "optimizer sgd"),
        ("network", "network small_cnn"),
        ("threat", "norm linf"),
    ],
)
def test_why_a_run_is_stale_is_a_sentence(finished, tmp_path, kind, said):
    made, folder = finished
    (run,) = made.runs()
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = tiny.record(copy)
    content["provenance"]["sources"][kind] = "0" * 64
    (copy / "train.json").write_text(json.dumps(content))
    assert reason_to_train(made, run, copy) == f"the sources of {said} are not those that it was trained with"
