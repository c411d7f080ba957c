"""What the report says of each run: all that its records hold, in the order in which a reader looks for it."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.results import RUN
from experiment import record
from reporting.captions import NOTHING


@dataclass(frozen=True)
class RunPage:
    """One run, as texts: facts by their name; `attacks` and `epochs` as lines of cells under a head of their own.

    provenance_of_attacks: where theirs is not the training's, by attack and name.
    """

    name: str
    title: str
    status: str
    doubts: list[str]
    outcome: dict[str, str]
    attacks_head: list[str]
    attacks: list[list[str]]
    epochs_head: list[str]
    epochs: list[list[str]]
    configuration: dict[str, str]
    provenance: dict[str, str]
    provenance_of_attacks: dict[str, str]


def name(dataset: str, variant: str, seed: int) -> str:
    """What links to the run's section name."""
    return f"run-{dataset}/{variant}/seed{seed}"


def read(runs: pd.DataFrame, folder: Path) -> list[RunPage]:
    """A page for every run in `runs`, the frame of `analysis.results.collate`, in its order.

    folder: results/<suite>, whose records are read again for what the frame leaves out.
    """
    return [_page(run, rows, folder) for run, rows in runs.groupby(RUN, sort=False)]


def flat(values: Mapping, path: str = "") -> dict[str, str]:
    """Every leaf of nested settings as text, by its dotted name."""
    leaves = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{path}{key}.")
        else:
            leaves[f"{path}{key}"] = _text(value)
    return leaves


def _page(run: tuple, rows: pd.DataFrame, folder: Path) -> RunPage:
    place, first = folder / run[0] / run[1] / f"seed{run[2]}", rows.iloc[0]
    train = record.read(place / "train.json")
    evaluations = {
        attack: record.read(place / "evaluate" / f"{attack}.json")
        for attack in rows.loc[rows["evaluation_status"] != "missing", "attack"]
    }
    made = flat(train["provenance"])
    doubts = [] if train["status"] == "ok" else [_status(train)]
    head, epochs = _epochs(place / "epochs.csv")
    return RunPage(
        name=name(*run),
        title=f"{run[0]} {run[1]} seed {run[2]}",
        status=train["status"] + (", suspect" if first["suspect"] else ""),
        doubts=doubts
        + [f"{doubt.capitalize()}: {first[doubt]}." for doubt in ("suspect", "disturbed") if first[doubt]],
        outcome=flat({key: train[key] for key in ("epochs", "validation", "cost")}),
        attacks_head=["attack", "images", "robust", "accuracy (%)", "95 % interval", "seconds", "flags", "settings"],
        attacks=[_attack(row, evaluations.get(row.attack)) for row in rows.itertuples()],
        epochs_head=head,
        epochs=epochs,
        configuration={key: value for key, value in flat(train["spec"]).items() if key not in ("suite", *RUN)},
        provenance=made | {"weights_sha256": _text(train["weights_sha256"])},
        provenance_of_attacks={
            f"{attack} {key}": value
            for attack, evaluation in evaluations.items()
            for key, value in flat(evaluation["provenance"]).items()
            if made.get(key) != value
        },
    )


def _status(train: Mapping) -> str:
    return f"{train['status'].capitalize()} at epoch {train['status_epoch']}: {train['status_reason']}."


def _attack(row, evaluation: Mapping | None) -> list[str]:
    """The cells of one attack; `row` is the runs frame's."""
    if evaluation is None:
        return [row.attack, *[NOTHING] * 6, "missing"]
    settings = {
        key: value
        for key, value in evaluation["settings"].items()
        if key not in ("name", "threat") and value is not None
    }
    said = ", ".join(f"{key} {value}" for key, value in flat(settings).items())
    if evaluation["status"] != "ok":
        return [row.attack, *[NOTHING] * 6, f"not evaluated, for the run diverged; {said}"]
    return [
        row.attack,
        str(evaluation["images"]),
        str(evaluation["correct"]),
        f"{100 * evaluation['accuracy']:.2f}",
        f"{100 * row.interval_low:.2f} to {100 * row.interval_high:.2f}",
        f"{evaluation['seconds']:.4g}",
        "; ".join(evaluation["flags"]) or "none",
        said,
    ]


def _epochs(path: Path) -> tuple[list[str], list[list[str]]]:
    """Head and lines of epochs.csv; none where it cannot be read, which the page's list of problems says."""
    try:
        with open(path, newline="") as file:
            head, *lines = csv.reader(file)
    except (OSError, ValueError, csv.Error):
        return [], []
    return [column.replace("_", " ") for column in head], [[_shortened(cell) for cell in line] for line in lines]


def _shortened(cell: str) -> str:
    """A number with four digits, which is what a reader compares by eye; epochs.csv has them all."""
    try:
        return cell if cell.isdigit() else f"{float(cell):.4g}"
    except ValueError:
        return cell


def _text(value) -> str:
    if value is None or value == {}:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
