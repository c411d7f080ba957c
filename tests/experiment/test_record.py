"""A record is whole, valid and complete, or it is not there."""

import copy
import json

import pytest

from experiment import record
from experiment.errors import UserError
from experiment.suite import ROOT

RUN = ROOT / "results" / "reference" / "quick" / "digits" / "pgd-7" / "seed0"
TRAIN, EVALUATION = (record.read(path) for path in (RUN / "train.json", RUN / "evaluate" / "autoattack.json"))
GPU = {"label": "NVIDIA H200", "device": "cuda", "cpu": "AMD EPYC", "threads": 1, "gpu": "NVIDIA H200"}


def changed(content, path, value):
    """A copy with the field at `path` set, or taken away where `value` is None."""
    content = copy.deepcopy(content)
    *folders, last = path.split(".")
    place = content
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


@pytest.mark.parametrize("content", [TRAIN, EVALUATION], ids=["train", "evaluation"])
@pytest.mark.parametrize(
    "field",
    [
        *("suite", "dataset", "variant", "seed", "weights_sha256", "provenance.hardware.label"),
        *("provenance.hardware.cpu", "provenance.hardware.threads", "provenance.precision", "provenance.python"),
        *("provenance.packages", "provenance.git.commit", "provenance.git.dirty", "provenance.sources.engine"),
        *("provenance.started", "provenance.finished"),
    ],
)
def test_a_record_that_does_not_say_where_it_comes_from_is_refused(content, field):
    with pytest.raises(UserError, match=field.rpartition(".")[2]):
        record.check(changed(content, field, None), "here")


def test_a_record_of_a_gpu_names_its_driver_and_libraries():
    complete = GPU | {"driver": "580.1", "cuda": "13.2", "cudnn": 92600}
    record.check(changed(TRAIN, "provenance.hardware", complete), "here")
    for field in ("gpu", "driver", "cuda", "cudnn"):
        missing = {key: value for key, value in complete.items() if key != field}
        with pytest.raises(UserError, match=field):
            record.check(changed(TRAIN, "provenance.hardware", missing), "here")


@pytest.mark.parametrize(
    ("content", "field", "value"),
    [
        (EVALUATION, "accuracy", 85.2),
        (EVALUATION, "accuracy", -0.1),
        (EVALUATION, "correct", 1.5),
        (EVALUATION, "status", "fine"),
        (EVALUATION, "flags", "none"),
        (EVALUATION, "extra", 1),
        (TRAIN, "status", "good"),
        (TRAIN, "weights_sha256", "abc"),
        (TRAIN, "provenance.precision", "fp8"),
        (TRAIN, "provenance.suite_sha256", "abc"),
        (EVALUATION, "images", 0),
        (TRAIN, "cost.passes", -1),
        (TRAIN, "cost.passes", 0),
        (TRAIN, "cost.compute", 0),
        (TRAIN, "cost.seconds", 0),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_field(content, field, value):
    with pytest.raises(UserError) as error:
        record.check(changed(content, field, value), "here")
    assert str(error.value).startswith("here: ")
    assert field.rpartition(".")[2] in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_written_is_read_again_and_what_is_invalid_is_not_written(tmp_path):
    path = tmp_path / "seed0" / "train.json"
    record.write(path, TRAIN)
    assert record.read(path) == TRAIN
    with pytest.raises(UserError, match="status"):
        record.write(path, TRAIN | {"status": "good"})
    with pytest.raises(ValueError, match="JSON"):
        record.write(path, changed(TRAIN, "cost.seconds", float("nan")))
    assert record.read(path) == TRAIN
    assert [file.name for file in path.parent.iterdir()] == ["train.json"]


@pytest.mark.parametrize(
    ("text", "says"), [("", "JSON"), ('{"kind": "tra', "JSON"), ("[1]", "kind"), (None, "no such")]
)
def test_a_file_that_is_no_record_is_named(tmp_path, text, says):
    path = tmp_path / "train.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        record.read(path)
    assert str(path) in str(error.value)


def test_every_committed_record_is_valid():
    records = sorted((ROOT / "results" / "reference").glob("*/*/*/seed*/**/*.json"))
    assert len(records) >= 150
    for path in records:
        content = record.read(path)
        assert json.loads(path.read_text()) == content


@pytest.mark.fault("file")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"kind": "train", "spec": ' + '{"a": ' * 100 + "1" + "}" * 101, "levels"),
        ('{"kind": "train", "cost": 1e999}', "1e999"),
        ('{"kind": "train", "seed": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"kind": "train", "status_reason": "' + "a" * record.LONGEST + '"}', "more than any record has"),
    ],
    ids=["deep", "infinite", "digits", "huge"],
)
def test_json_that_no_record_has_is_one_sentence(tmp_path, text, problem):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(UserError, match=problem):
        record.read(tmp_path / "train.json")
