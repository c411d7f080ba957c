"""What a suite's results folder holds: its records, read once and held against the suite, as frames."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.checks import suspicions
from analysis.frames import read_csv
from analysis.statistics import wilson_interval
from experiment import consistency
from experiment.attacks import of_settings
from experiment.errors import UserError
from experiment.suite import Suite
from experiment.verdicts import check_evaluates, read_verdicts

RUN = ["dataset", "variant", "seed"]  # what names a run in the runs frame
COST_COLUMNS = [
    "seconds",
    "cpu_seconds",
    "others_cores",
    "epoch_spread",
    "compute",
    "passes",
    "updates",
    "images_per_second",
]
COST_COLUMNS += ["peak_memory_bytes", "peak_memory_of"]
EPOCH_COLUMNS = ["epoch", "steps", "step_size", "learning_rate", "magnitude", "train_accuracy"]
EPOCH_COLUMNS += ["validation_clean_accuracy", "validation_pgd_accuracy"]
EPOCH_TYPES = dict.fromkeys(EPOCH_COLUMNS, float) | {"epoch": int, "steps": int}
WHOLE = [
    "status_epoch",
    "evaluated_epoch",
    "images",
    "correct",
    "attack_steps",
    "attack_restarts",
]  # whole numbers that may be missing
FRACTIONS = ["accuracy", "interval_low", "interval_high"]


@dataclass(frozen=True)
class Collation:
    """What a suite's results folder holds.

    runs: one row for each trained run and attack of the suite, accuracies as fractions; `evaluation_status` is "ok",
        "not-evaluated" (the run diverged) or "missing", and only "ok" has an accuracy; `verdicts` is one bool an image;
        `suspect` is why the run is not to be believed, `disturbed` why its seconds are not, "" for nothing.
    epochs: one row an epoch of those runs; missing: what is not there yet; problems: files that could not be used.
    """

    runs: pd.DataFrame
    epochs: pd.DataFrame
    missing: list[str]
    problems: list[str]


def collate(resolved: dict, folder: Path) -> Collation:
    """Read every record of the suite `resolved` under `folder` (results/<suite>).

    A record counts only if it was made as the suite says: a run by its specification, an attack by its settings.
    Raises UserError when no run has a usable training record; anything less is in `missing` and `problems`.
    """
    rows, epochs, missing, problems = [], [], [], []
    suite = Suite.from_mapping(resolved)
    specs = {run.folder: run.spec for run in suite.runs()}
    settings = {attack: suite.attack(attack) for attack in suite.attacks}
    for identity, variant in _planned(resolved):
        run = f"{identity['dataset']}/{identity['variant']}/seed{identity['seed']}"
        place = folder / run
        name = f"{identity['variant']} seed {identity['seed']}"
        name = name if len(resolved["datasets"]) == 1 else f"{identity['dataset']} {name}"
        expected = {"kind": "train", **identity, "spec": specs[run]} | consistency.of_data(identity["dataset"], "train")
        train = _read(place / "train.json", expected, problems)
        if train is None:
            missing.append(
                f"{name} ({'train.json cannot be used' if _is_there(place / 'train.json') else 'not trained'})"
            )
            continue
        evaluations, verdicts = _read_evaluations(place / "evaluate", settings, identity, train, problems)
        missing += [f"{name} {attack}" for attack, evaluation in evaluations.items() if evaluation is None]
        evaluated = {attack: record for attack, record in evaluations.items() if record and record["status"] == "ok"}
        suspect = "; ".join(suspicions(evaluated, verdicts))
        rows += [
            _row(train, variant, attack, settings[attack], evaluation)
            | {"suspect": suspect, "verdicts": verdicts.get(attack)}
            for attack, evaluation in evaluations.items()
        ]
        epochs += _read_epochs(place / "epochs.csv", identity, problems)
    if not rows:
        hint = problems[0] if problems else "run snakemake first, or name the folder with --results"
        raise UserError(f"{os.path.relpath(folder)} has no training record of suite {resolved['suite']}; {hint}")
    types = dict.fromkeys(WHOLE, "Int64") | dict.fromkeys(FRACTIONS, float)
    runs = pd.DataFrame(rows).astype(types)
    return Collation(runs, pd.concat(epochs) if epochs else pd.DataFrame(), missing, problems)


def _planned(resolved: dict) -> Iterator[tuple[dict, dict]]:
    for dataset in resolved["datasets"]:
        for variant in resolved["variants"]:
            for seed in resolved["seeds"]:
                names = {"suite": resolved["suite"], "dataset": dataset, "variant": variant["label"], "seed": seed}
                yield names, variant


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # reading it will say why it cannot be read
        return True
    return True


def _read(path: Path, expected: dict, problems: list[str], train: dict | None = None) -> dict | None:
    """The record at `path`; None where there is none, and None with a problem noted where it cannot be used."""
    if not _is_there(path):
        return None
    try:
        content = consistency.read(path, expected)
        if train is not None:
            check_evaluates(path, content, train)
    except UserError as error:
        problems.append(str(error))
        return None
    return content


def _read_evaluations(
    folder: Path, settings: dict[str, dict], identity: dict, train: dict, problems: list[str]
) -> tuple[dict[str, dict | None], dict[str, np.ndarray]]:
    """The run's evaluation records by attack, None where there is no usable one, and their verdicts."""
    evaluations, verdicts = {}, {}
    for attack, wanted in settings.items():
        expected = {"kind": "evaluation", "attack": attack, **identity, "settings": wanted}
        expected |= consistency.of_data(identity["dataset"], "test")
        evaluation = _read(folder / f"{attack}.json", expected, problems, train)
        if evaluation is not None:
            try:
                verdicts[attack] = read_verdicts(folder / f"{attack}.robust.npy", evaluation)
            except UserError as error:
                problems.append(str(error))
                evaluation = None
        evaluations[attack] = evaluation
    return evaluations, verdicts


def _read_epochs(path: Path, identity: dict, problems: list[str]) -> list[pd.DataFrame]:
    try:
        return [read_csv(path, EPOCH_TYPES).assign(**identity)]
    except UserError as error:
        problems.append(str(error))
        return []


def _row(train: dict, variant: dict, attack: str, settings: dict, evaluation: dict | None) -> dict:
    """A row of the runs frame: one run under one attack."""
    found = evaluation or {"status": "missing", "flags": []}
    low, high = (None, None) if found.get("accuracy") is None else wilson_interval(found["correct"], found["images"])
    return {
        **{key: train[key] for key in ("dataset", "variant")},
        **{"method": variant["method"], "rule": variant["steps"]["rule"], "base": variant.get("base")},
        **{key: train[key] for key in ("seed", "status", "status_epoch", "status_reason")},
        **{"attack": attack, "evaluation_status": found["status"], **_steps(settings)},
        **{key: found.get(key) for key in ("images", "correct", "accuracy")},
        **{"interval_low": low, "interval_high": high, "flags": "; ".join(found["flags"])},
        **{column: train["cost"][column] for column in COST_COLUMNS},
        "disturbed": train["cost"]["disturbed"] or "",
        "evaluated_epoch": train["epochs"]["evaluated"],
        **{"hardware": train["provenance"]["hardware"]["label"], "precision": train["provenance"]["precision"]},
        **_software(train["provenance"]),
        "method_sha256": train["provenance"]["sources"]["method"],
        "evaluation_seconds": found.get("seconds"),
        "evaluation_hardware": evaluation and evaluation["provenance"]["hardware"]["label"],
        "evaluation_precision": evaluation and evaluation["provenance"]["precision"],
        **{f"evaluation_{key}": value for key, value in _software(evaluation and evaluation["provenance"]).items()},
        "weights_sha256": train["weights_sha256"],
        "data_sha256": train["data_sha256"],
        "evaluation_data_sha256": evaluation and evaluation["data_sha256"],
    }


def _steps(settings: dict) -> dict[str, float | None]:
    """How many steps an attack takes, how long and how often from anew; None where it has no such numbers."""
    return {f"attack_{key}": value for key, value in of_settings(settings).iterations.items()}


def _software(provenance: dict | None) -> dict[str, str | None]:
    """The hash of the engine's source and the versions of what it ran on; None where there is no record."""
    if provenance is None:
        return dict.fromkeys(("engine_sha256", "packages"))
    versions = {"python": provenance["python"], **provenance["packages"]}
    return {
        "engine_sha256": provenance["sources"]["engine"],
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
    }


def attack_names(resolved: dict) -> list[str]:
    """The suite's attacks, in the order of the tables' columns."""
    return [attack["label"] for attack in resolved["evaluation"]["attacks"]]


def headline_attack(resolved: dict) -> str:
    """The attack by which a suite is judged: autoattack, or else the suite's last."""
    attacks = resolved["evaluation"]["attacks"]
    return next((attack for attack in attacks if attack["name"] == "autoattack"), attacks[-1])["label"]


def by_variant(resolved: dict, runs: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """Each data set and variant in the suite's order, with its rows (none where nothing was trained)."""
    for dataset in resolved["datasets"]:
        for variant in resolved["variants"]:
            identity = {"dataset": dataset, "variant": variant["label"], "base": variant.get("base")}
            identity |= {"method": variant["method"], "rule": variant["steps"]["rule"]}
            yield identity, runs[(runs["dataset"] == dataset) & (runs["variant"] == variant["label"])]
