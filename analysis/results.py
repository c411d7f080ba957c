"""What a suite's results folder holds: its records, read once and held against the suite, as numbers."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns, frames
from analysis.checks import suspicions
from analysis.statistics import wilson_interval
from experiment import consistency
from experiment.attacks import of_settings
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError
from experiment.keys import Variant
from experiment.record import Record
from experiment.suite import Suite
from experiment.verdicts import check_evaluates, read_verdicts

RUN = ["dataset", "variant", "seed"]  # what names a run in the runs frame
COST_COLUMNS = [
    *("seconds", "cpu_seconds", "others_cores", "cores_beside", "epoch_spread"),
    *("compute", "passes", "forwards", "updates"),
]
COST_COLUMNS += ["images_per_second", "peak_memory_bytes", "peak_memory_of"]
SHARED_COSTS = ("seconds", "compute", "passes", "forwards", "updates")  # a teacher's count as its student's
EPOCH_TYPES = columns.types(columns.EPOCHS)
RUN_TYPES = columns.types(columns.RUNS)
NOT_IN_CSV = ["verdicts", "packages", "evaluation_packages"]  # long, and in the records


class RunKey(NamedTuple):
    """What names a run within a suite."""

    dataset: str
    variant: str
    seed: int

    @property
    def folder(self) -> str:
        """Where the run's files lie inside the suite's results."""
        return f"{self.dataset}/{self.variant}/seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.dataset} {self.variant} seed {self.seed}"


@dataclass(frozen=True)
class RunRecords:
    """What a run left: its training record, and by attack the evaluations' records and verdicts, (images,) bool."""

    train: Record
    evaluations: dict[str, Record]
    verdicts: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Results:
    """What a suite's results folder holds.

    records: of every run of the suite with a usable training record.
    runs: one row for each such run and attack of the suite, as columns.RUNS has it; `evaluation_status` is "ok",
        "not-evaluated" (the run diverged) or "missing", and only "ok" has an accuracy, and `verdicts`, one bool an
        image; `suspect` is why the run is not to be believed, `disturbed` why its seconds are not, "" for nothing.
    epochs: one row an epoch of those runs, as columns.EPOCHS has it, with what names the run.
    missing: what is not there yet; problems: files that could not be used.
    """

    records: dict[RunKey, RunRecords]
    runs: pd.DataFrame
    epochs: pd.DataFrame
    missing: list[str]
    problems: list[str]

    def runs_csv(self) -> str:
        """The text of runs.csv."""
        return frames.to_csv("runs.csv", self.runs.drop(columns=NOT_IN_CSV))


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested settings with its dotted name; an empty mapping is one."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def collate(suite: Suite, folder: Path) -> Results:
    """Read every record of the suite under `folder` (results/<suite>).

    A record counts only if it was made as the suite says: a run by its specification, an attack by its settings.
    Raises UserError when no run has a usable training record; anything less is in `missing` and `problems`.
    """
    records: dict[RunKey, RunRecords] = {}
    rows: list[dict[str, Any]] = []
    epochs: list[pd.DataFrame] = []
    missing: list[str] = []
    problems: list[str] = []
    specs = {run.folder: run.spec for run in suite.runs()}
    settings = {attack: suite.attack(attack) for attack in suite.attacks}
    for key, variant in _planned(suite):
        place, identity = folder / key.folder, {"suite": suite.name, **key._asdict()}
        name = str(key) if len(suite.datasets) > 1 else f"{key.variant} seed {key.seed}"
        dataset, expected = suite.dataset(key.dataset), {"kind": "train", **identity, "spec": specs[key.folder]}
        train = _read(place / "train.json", expected | consistency.of_data(dataset, "train"), problems)
        if train is None:
            there = _is_there(place / "train.json")
            missing.append(f"{name} ({'train.json cannot be used' if there else 'not trained'})")
            continue
        why = consistency.reason_of_teacher(suite, suite.run(key.folder), train, folder)
        if why is not None:
            problems.append(f"{place / 'train.json'}: {why}")
            missing.append(f"{name} (train.json cannot be used)")
            continue
        found = records[key] = _read_evaluations(place / "evaluate", settings, identity, dataset, train, problems)
        missing += [f"{name} {attack}" for attack in settings if attack not in found.evaluations]
        evaluated = {attack: each for attack, each in found.evaluations.items() if each["status"] == "ok"}
        suspect = "; ".join(suspicions(evaluated, found.verdicts, dataset.classes))
        rows += [
            _row(train, variant, attack, wanted, found.evaluations.get(attack))
            | {"suspect": suspect, "verdicts": found.verdicts.get(attack)}
            for attack, wanted in settings.items()
        ]
        epochs += _read_epochs(place / "epochs.csv", identity, problems)
    if not rows:
        hint = problems[0] if problems else "run snakemake first, or name the folder with --results"
        raise UserError(f"{os.path.relpath(folder)} has no training record of suite {suite.name}; {hint}")
    numbers = {column: kind for column, kind in RUN_TYPES.items() if kind is not str}
    runs = pd.DataFrame(rows).astype(numbers)
    return Results(records, runs, pd.concat(epochs) if epochs else pd.DataFrame(), missing, problems)


def _planned(suite: Suite) -> Iterator[tuple[RunKey, Variant]]:
    for dataset in suite.datasets:
        for variant in suite.variants:
            for seed in suite.seeds:
                yield RunKey(dataset, variant.label, seed), variant


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # reading it will say why it cannot be read
        return True
    return True


def _read(path: Path, expected: Mapping[str, Any], problems: list[str], train: Record | None = None) -> Record | None:
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
    folder: Path,
    settings: Mapping[str, Mapping[str, Any]],
    identity: Mapping[str, Any],
    dataset: Dataset,
    train: Record,
    problems: list[str],
) -> RunRecords:
    """The run's records, with those evaluations that are usable."""
    found = RunRecords(train, {}, {})
    for attack, wanted in settings.items():
        expected = {"kind": "evaluation", "attack": attack, **identity, "settings": wanted}
        expected |= consistency.of_data(dataset, "test")
        evaluation = _read(folder / f"{attack}.json", expected, problems, train)
        if evaluation is not None:
            try:
                found.verdicts[attack] = read_verdicts(folder / f"{attack}.robust.npy", evaluation)
            except UserError as error:
                problems.append(str(error))
                continue
            found.evaluations[attack] = evaluation
    return found


def _read_epochs(path: Path, identity: Mapping[str, Any], problems: list[str]) -> list[pd.DataFrame]:
    try:
        return [frames.read_csv(path, EPOCH_TYPES, columns.OF_TRAINED).assign(**identity)]
    except UserError as error:
        problems.append(str(error))
        return []


def _row(
    train: Record, variant: Variant, attack: str, settings: Mapping[str, Any], evaluation: Record | None
) -> dict[str, Any]:
    """A row of the runs frame: one run under one attack."""
    found = evaluation or {"status": "missing", "flags": []}
    low, high = (None, None) if found.get("accuracy") is None else wilson_interval(found["correct"], found["images"])
    return {
        **{key: train[key] for key in ("dataset", "variant")},
        **{"method": variant.method, "rule": _rule(variant), "base": variant.base},
        **{key: train[key] for key in ("seed", "status", "status_epoch", "status_reason")},
        **{"attack": attack, "evaluation_status": found["status"], **_steps(settings)},
        **{key: found.get(key) for key in ("images", "correct", "accuracy")},
        **{"interval_low": low, "interval_high": high, "flags": "; ".join(found["flags"])},
        **_cost(train),
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


def _cost(train: Record) -> dict[str, Any]:
    """What the run took, with what its teacher took where it had one, and that by itself."""
    own, teacher = train["cost"], train["teacher"]["cost"] if "teacher" in train else None
    found = {column: own[column] for column in COST_COLUMNS}
    if teacher is not None:
        found |= {column: own[column] + teacher[column] for column in SHARED_COSTS}
    of_teacher = {f"teacher_{column}": teacher and teacher[column] for column in ("seconds", "compute")}
    return {**found, **of_teacher, "disturbed": own["disturbed"] or (teacher and teacher["disturbed"]) or ""}


def _steps(settings: Mapping[str, Any]) -> dict[str, float | None]:
    """How many steps an attack takes, how long and how often from anew; None where it has no such numbers."""
    return {f"attack_{key}": value for key, value in of_settings(settings).iterations.items()}


def _software(provenance: Mapping[str, Any] | None) -> dict[str, str | None]:
    """The hash of the engine's source and the versions of what it ran on; None where there is no record."""
    if provenance is None:
        return dict.fromkeys(("engine_sha256", "packages"))
    versions = {"python": provenance["python"], **provenance["packages"]}
    return {
        "engine_sha256": provenance["sources"]["engine"],
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
    }


def headline_attack(suite: Suite) -> str:
    """The attack by which a suite is judged: autoattack, or else the suite's last."""
    attacks = suite.resolved["evaluation"]["attacks"]
    return next((attack for attack in attacks if attack["name"] == "autoattack"), attacks[-1])["label"]


class Identity(NamedTuple):
    """What a line of a table is of."""

    dataset: str
    variant: str
    base: str | None
    method: str
    rule: str


def _rule(variant: Variant) -> str:
    steps: Any = variant.steps  # of the rule that its `rule` names
    return steps.rule


def by_variant(suite: Suite, runs: pd.DataFrame) -> Iterator[tuple[Identity, pd.DataFrame]]:
    """Each data set and variant in the suite's order, with its rows (none where nothing was trained)."""
    for dataset in suite.datasets:
        for variant in suite.variants:
            label = variant.label
            identity = Identity(dataset, label, variant.base, variant.method, _rule(variant))
            yield identity, runs[(runs["dataset"] == dataset) & (runs["variant"] == label)]


def suspects(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each run that is suspect."""
    return runs[runs["suspect"] != ""].drop_duplicates(RUN)
