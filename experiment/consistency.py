"""Whether a record was made as the suite says that collates it."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiment import data, provenance, record, schema
from experiment.errors import UserError, shown
from experiment.suite import Run, Suite, attack_schema
from experiment.verdicts import check_evaluates, read_verdicts

ABSENT = object()


def read(path: Path, expected: Mapping[str, Any]) -> record.Record:
    """The record at `path`, whose fields must be as `expected`. Raises UserError that names the first other one."""
    content = record.read(path)
    for field, wanted in expected.items():
        differing = difference(content[field], wanted, field)
        if differing is not None:
            raise UserError(f"{path}: {differing}")
    return content


def of_data(dataset: str, split: str) -> dict[str, str]:
    """What a record must say of its data: the digest of the data set's split, where that is known."""
    known = data.dataset(dataset).sha256.get(split)
    return {"data_sha256": known} if known else {}


def reason_to_train(run: Run, folder: Path) -> str | None:
    """Why what lies in `folder` is not what training `run` now would leave, as a clause; None where it is."""
    identity = {"dataset": run.dataset, "variant": run.variant, "seed": run.seed}
    path = folder / "train.json"
    try:
        trained = read(path, {"kind": "train", **identity, "spec": run.spec} | of_data(run.dataset, "train"))
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    if trained["provenance"]["sources"]["method"] != provenance.method_sha256(run.spec["method"]):
        return f"the sources of method {run.spec['method']} are not those that it was trained with"
    lacking = [name for name in ("epochs.csv", "model.safetensors") if not (folder / name).is_file()]
    return f"there is no {lacking[0]} beside it" if lacking else None


def reason_to_evaluate(suite: Suite, run: Run, attack: str, folder: Path) -> str | None:
    """Why what lies in `folder` is not what attacking the run there would leave, as a clause; None where it is."""
    path = folder / "evaluate" / f"{attack}.json"
    identity = {"dataset": run.dataset, "variant": run.variant, "seed": run.seed, "attack": attack}
    try:
        trained = record.read(folder / "train.json")
        expected = {"kind": "evaluation", **identity, "settings": suite.attack(attack)}
        evaluation = read(path, expected | of_data(run.dataset, "test"))
        check_evaluates(path, evaluation, trained)
        read_verdicts(path.with_name(f"{attack}.robust.npy"), evaluation)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    same = evaluation["weights_sha256"] == trained["weights_sha256"]
    return None if same else "weights_sha256 is not that of train.json"


def difference(found: Any, wanted: Any, field: str) -> str | None:
    """The first leaf of `field` in which a record's value is not the suite's, as a clause; None where they agree.

    A key that the record lacks because the suite learnt it later counts as its default: what was done before it.
    """
    if field == "spec":
        found = completed_spec(found, wanted["steps"]["rule"])
    elif field == "settings":
        found = completed_settings(found, wanted["name"])
    return _first(found, wanted, field)


def completed_spec(spec: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """A run's specification with the default of every key that it lacks. rule: of its steps."""
    completed, known = copy.deepcopy(dict(spec)), schema.suite()
    parts = {key: known["properties"][key] for key in ("network", "threat", "training")}
    parts["steps"] = known["$defs"]["steps"][rule]
    for key, part in parts.items():
        schema.fill_defaults(completed.get(key), part)
    return completed


def completed_settings(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An attack's settings with the default of every key that they lack, without keys that no such attack heeds."""
    heeded, others = attack_schema(name)["properties"], schema.suite()["$defs"]["attacks"].values()
    without_effect = {key for other in others for key in other["properties"]} - set(heeded)
    completed = {key: copy.deepcopy(value) for key, value in settings.items() if key not in without_effect}
    schema.fill_defaults(completed, attack_schema(name))
    return completed


def _first(found: Any, wanted: Any, path: str) -> str | None:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            differing = _first(found.get(key, ABSENT), wanted.get(key, ABSENT), f"{path}.{key}")
            if differing is not None:
                return differing
        return None
    if found == wanted and isinstance(found, bool) == isinstance(wanted, bool):
        return None
    here = "absent" if found is ABSENT else shown(found)
    right = "be absent" if wanted is ABSENT else f"be {shown(wanted)}"
    return f"{path} is {here}; in this place it must {right}"
