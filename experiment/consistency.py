"""Whether a record was made as the suite says that collates it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from experiment import data, plugins, provenance, record
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError, shown
from experiment.fields import Keys
from experiment.keys import NOT_IN_SETTINGS, Training, attack_of
from experiment.suite import Run, Suite
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


def of_data(dataset: Dataset, split: str) -> dict[str, str]:
    """What a record must say of its data: the digest of the data set's split, where that is known."""
    known = data.expected_sha256(dataset, split)
    return {"data_sha256": known} if known else {}


def reason_to_train(suite: Suite, run: Run, folder: Path) -> str | None:
    """Why what lies in `folder` is not what training `run` now would leave, as a clause; None where it is."""
    identity = {"dataset": run.dataset, "variant": run.variant, "seed": run.seed}
    path = folder / "train.json"
    try:
        known = suite.dataset(run.dataset)
        trained = read(path, {"kind": "train", **identity, "spec": run.spec} | of_data(known, "train"))
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    if (changed := _changed(trained, provenance.named_by_run(run.spec))) is not None:
        return f"the sources of {changed} are not those that it was trained with"
    stated = trained["provenance"]["sources"].get("dataset")
    if known.source is None and stated != provenance.facts_sha256(known):  # a user's own follow from images and spec
        return f"mean, std or augmentation of {run.dataset} are not those that it was trained with"
    if (why := reason_of_teacher(suite, run, trained, folder.parents[len(Path(run.folder).parts) - 1])) is not None:
        return why
    lacking = [name for name in ("epochs.csv", "model.safetensors") if not (folder / name).is_file()]
    return f"there is no {lacking[0]} beside it" if lacking else None


def reason_of_teacher(suite: Suite, run: Run, trained: record.Record, results: Path) -> str | None:
    """Why a run's record is not of what its teacher is now, as a clause; None where it is, or the run has none.

    trained: of the run; results: the folder of the suite's results.
    """
    if (teacher := suite.teacher(run)) is None:
        return None
    if "teacher" not in trained:
        return "it does not say what it learnt from"
    try:
        now = record.read(results / teacher.folder / "train.json")["weights_sha256"]
    except UserError as error:
        return f"its teacher cannot be used: {error}"
    return (
        None
        if trained["teacher"]["weights_sha256"] == now
        else ("its teacher's weights are not those that it was trained with")
    )


def reason_to_evaluate(suite: Suite, run: Run, attack: str, folder: Path) -> str | None:
    """Why what lies in `folder` is not what attacking the run there would leave, as a clause; None where it is."""
    path = folder / "evaluate" / f"{attack}.json"
    identity = {"dataset": run.dataset, "variant": run.variant, "seed": run.seed, "attack": attack}
    try:
        trained = record.read(folder / "train.json")
        expected = {"kind": "evaluation", **identity, "settings": suite.attack(attack)}
        evaluation = read(path, expected | of_data(suite.dataset(run.dataset), "test"))
        check_evaluates(path, evaluation, trained)
        read_verdicts(path.with_name(f"{attack}.robust.npy"), evaluation)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    if (changed := _changed(evaluation, provenance.named_by_attack(suite.attack(attack), run.spec))) is not None:
        return f"the sources of {changed} are not those that it was made with"
    same = evaluation["weights_sha256"] == trained["weights_sha256"]
    return None if same else "weights_sha256 is not that of train.json"


def _changed(made: record.Record, named: Iterable[tuple[str, str]]) -> str | None:
    """The first of `named`, "steps rule mplus", whose sources are not those that a record was made with."""
    for kind, name in named:
        if made["provenance"]["sources"].get(kind) != provenance.sha256_of(kind, name):
            return f"{plugins.KINDS[kind].what} {name}"
    return None


def difference(found: Any, wanted: Any, field: str) -> str | None:
    """The first leaf of `field` in which a record's value is not the suite's, as a clause; None where they agree.

    A key that the record lacks because the suite learnt it later counts as its default: what was done before it.
    """
    if field == "spec":
        found = completed_spec(found)
    elif field == "settings":
        found = completed_settings(found)
    return _first(found, wanted, field)


def completed_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A run's specification with the default of every key that it lacks."""
    context = {"eps": spec["threat"].get("eps")} if isinstance(spec.get("threat"), Mapping) else {}
    parts: dict[str, Callable[[Any], Keys]] = {
        "network": lambda part: plugins.validated("network", part, context),
        "threat": lambda part: plugins.validated("threat", part, context),
        "training": lambda part: Training.model_validate(part, context=context),
        "steps": lambda part: plugins.validated("steps", part, context),
    }
    found = {key: _completed(value, parts[key]) if key in parts else value for key, value in spec.items()}
    if isinstance(found.get("teacher"), Mapping):
        found["teacher"] = completed_spec(found["teacher"])
    return found


def completed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """An attack's settings with the default of every key that they lack."""
    threat = settings.get("threat")
    context = {"eps": threat.get("eps")} if isinstance(threat, Mapping) else {}
    own = {key: value for key, value in settings.items() if key != "threat"}
    completed = _completed(own, lambda part: attack_of(part, context))
    return {**{key: value for key, value in completed.items() if key not in NOT_IN_SETTINGS}, "threat": threat}


def _completed(value: Any, validated: Callable[[Any], Keys]) -> Any:
    """What a suite would make of it; the value itself where no suite could hold it."""
    try:
        return validated(value).model_dump(mode="json")
    except (UserError, ValueError):
        return value


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
