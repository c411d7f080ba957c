"""What of a suite's results must be made, or made again, and why. Digests decide, never times."""

from pathlib import Path

from analysis import digests
from experiment import consistency, record, weights
from experiment.errors import UserError
from experiment.suite import Suite


def reasons(suite: Suite, folder: Path) -> dict[str, str]:
    """Why each file of `folder` (results/<suite>) is to be made, as a clause, by its path from there.

    A run has train.json for its key, an evaluation its record, and what is made of all records runs.csv.
    """
    found = {}
    for run in suite.runs():
        record_of = {attack: f"{run.folder}/evaluate/{attack}.json" for attack in suite.attacks}
        whys = {
            attack: consistency.reason_to_evaluate(suite, run, attack, folder / run.folder) for attack in suite.attacks
        }
        training = consistency.reason_to_train(run, folder / run.folder)
        if training is None and any(whys.values()):
            training = _damage(folder / run.folder)
        if training is not None:
            found[f"{run.folder}/train.json"] = training
            whys = dict.fromkeys(suite.attacks, "its run is to be trained")
        found |= {record_of[attack]: why for attack, why in whys.items() if why is not None}
    why = f"{next(iter(found))} is to be made" if found else digests.reason(suite, folder)
    return found if why is None else found | {"runs.csv": why}


def _damage(folder: Path) -> str | None:
    """Why the weights in `folder` cannot be attacked, as a clause."""
    try:
        weights.load(folder / "model.safetensors", record.read(folder / "train.json")["weights_sha256"])
    except UserError as error:
        return str(error)
    return None
