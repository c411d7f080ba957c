"""Records of another protocol than the suite's: named with the field, and all else is collated."""

import json

import pytest
from synthetic import VARIANTS, changed, made_up_suite, write_results

from analysis.results import collate
from experiment.errors import UserError

ABSENT = object()
FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus")}


@pytest.fixture
def suite():
    return made_up_suite(FEW, seeds=(0, 1), epochs=4)


@pytest.fixture
def folder(tmp_path, suite):
    return write_results(tmp_path, suite, variants=FEW)


def change(path, keys, value):
    """Set a nested field of a record; ABSENT takes it out."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    if value is ABSENT:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "keys", "value", "says"),
    [
        ("train.json", "spec.training.epochs", 20, " is 20; in this place it must be 4"),
        ("train.json", "spec.training.lr", 0.1, " is 0.1"),
        ("train.json", "spec.training.schedule.milestones", [0.4], " is [0.4]"),
        ("train.json", "spec.threat.eps", 0.2, " is 0.2"),
        ("train.json", "spec.steps.steps", 5, " is 5"),
        ("train.json", "spec.steps.steps", ABSENT, " is absent"),
        ("train.json", "spec.steps", None, " is None"),
        ("train.json", "spec.extra", 1, " is 1; in this place it must be absent"),
        ("train.json", "spec", {}, ".suite is absent"),
        ("evaluate/pgd-20.json", "settings.restarts", 5, " is 5; in this place it must be 1"),
        ("evaluate/pgd-20.json", "settings.threat.eps", 0.2, " is 0.2"),
        ("evaluate/pgd-20.json", "settings.images", 128, " is 128; in this place it must be None"),
        ("evaluate/pgd-20.json", "settings", {}, ".name is absent"),
    ],
)
def test_a_record_of_another_protocol_is_named_with_the_field_and_all_else_is_collated(
    folder, suite, file, keys, value, says
):
    path = folder / "digits/pgd-7/seed0" / file
    change(path, keys.split("."), value)
    found = collate(suite, folder)
    (problem,) = found.problems
    assert problem.startswith(f"{path}: {keys}{says}")
    assert (found.runs["evaluation_status"] == "ok").sum() == 16 - (1 if file.startswith("evaluate") else 4)


def refusal(suite, folder):
    with pytest.raises(UserError) as refused:
        collate(suite, folder)
    return str(refused.value)


def test_a_key_that_the_suite_learnt_after_a_record_was_made_counts_as_its_default(folder, suite):
    for path in folder.rglob("train.json"):
        change(path, ["spec", "training", "crafting_batch_norm"], ABSENT)
    change(folder / "digits/pgd+mplus/seed0/train.json", ["spec", "steps", "guard"], ABSENT)
    assert collate(suite, folder).problems == []
    other = changed(suite, training=suite.resolved["training"] | {"crafting_batch_norm": "eval"})
    assert "crafting_batch_norm is 'train'; in this place it must be 'eval'" in refusal(other, folder)


def test_a_folder_of_another_protocol_has_nothing_to_collate_and_the_sentence_names_a_field(folder, suite):
    sentence = refusal(changed(suite, threat=suite.resolved["threat"] | {"eps": 0.3}), folder)
    assert "has no training record of suite quick" in sentence
    assert "train.json: spec.threat.eps is 0.1; in this place it must be 0.3" in sentence
    assert "\n" not in sentence
