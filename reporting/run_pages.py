"""What the report says of each run: all that its records hold, in the order in which a reader looks for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import EPOCHS
from analysis.results import RUN, Results, RunKey, leaves
from experiment.record import Record
from reporting.captions import NOTHING


@dataclass(frozen=True)
class RunPage:
    """One run, as texts: facts by their name; `attacks` and `epochs` as lines of cells under a head of their own.

    provenance_of_attacks: where theirs is not the training's, by attack and name; commit: of the project, in training.
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
    commit: str


def name(dataset: str, variant: str, seed: int) -> str:
    """What links to the run's section name."""
    return f"run-{dataset}/{variant}/seed{seed}"


def pages(results: Results) -> list[RunPage]:
    """A page for every run with a training record, in the suite's order."""
    return [_page(RunKey(*run), rows, results) for run, rows in results.runs.groupby(RUN, sort=False)]


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Every leaf of nested settings as text, by its dotted name."""
    return {path: _text(value) for path, value in leaves(values)}


def _page(run: RunKey, rows: pd.DataFrame, results: Results) -> RunPage:
    train, evaluations = results.records[run].train, results.records[run].evaluations
    first, made = rows.iloc[0], _flat(train["provenance"])
    doubts = [] if train["status"] == "ok" else [_status(train)]
    head, epochs = _epochs(run, results.epochs)
    return RunPage(
        name=name(*run),
        title=str(run),
        status=train["status"] + (", suspect" if first["suspect"] else ""),
        doubts=doubts
        + [f"{doubt.capitalize()}: {first[doubt]}." for doubt in ("suspect", "disturbed") if first[doubt]],
        outcome=_flat({key: train[key] for key in ("epochs", "validation", "cost")}),
        attacks_head=["attack", "images", "robust", "accuracy (%)", "95 % interval", "seconds", "flags", "settings"],
        attacks=[_attack(row, evaluations.get(row.attack)) for row in rows.itertuples()],
        epochs_head=head,
        epochs=epochs,
        configuration={key: value for key, value in _flat(train["spec"]).items() if key not in ("suite", *RUN)},
        provenance=made | {"weights_sha256": _text(train["weights_sha256"])},
        provenance_of_attacks={
            f"{attack} {key}": value
            for attack, evaluation in evaluations.items()
            for key, value in _flat(evaluation["provenance"]).items()
            if made.get(key) != value
        },
        commit=_commit(train),
    )


def _commit(train: Record) -> str:
    """The commit that trained the run, and whether the files were as in it."""
    git = train["provenance"]["git"]
    return f"{_text(git['commit'])}{', with changes that are in no commit' * bool(git['dirty'])}"


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
    said = ", ".join(f"{key} {value}" for key, value in _flat(settings).items())
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


def _epochs(run: RunKey, epochs: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a run's epochs; none where they could not be read, which the page's list of problems says.

    Numbers have the four digits that a reader compares by eye; epochs.csv has them all.
    """
    columns = [column.name for column in EPOCHS]
    if epochs.empty:
        return [], []
    ours = epochs[(epochs[RUN] == list(run)).all(axis=1)]
    if ours.empty:
        return [], []
    head = [column.replace("_", " ") for column in columns]
    return head, [[_number(value) for value in line] for line in zip(*(ours[c] for c in columns), strict=True)]


def _number(value: float) -> str:
    return "" if pd.isna(value) else str(value) if isinstance(value, int | np.integer) else f"{value:.4g}"


def _text(value) -> str:
    if value is None or value == {}:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
