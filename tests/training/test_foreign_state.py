"""A checkpoint that somebody or something else wrote is a sentence, never a traceback or another run's numbers."""

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiment.data import dataset
from experiment.errors import UserError
from training import checkpoint
from training.trainer import Trainer

CPU = torch.device("cpu")
IDENTITY = {"spec": {"seed": 0}, "hardware": "CPU", "packages": {"torch": "2"}, "precision": "fp32"}
STATE = {"network": {"weight": torch.arange(6.0).reshape(2, 3)}, "rows": [{"epoch": 0}], "best": None}


@pytest.fixture(scope="module")
def spec():
    return next(tiny.suite("data").runs()).spec


def trainer(spec, folder):
    images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    return Trainer(spec, dataset("digits"), (images, labels, images, labels), CPU, folder, 1)


@pytest.mark.slow
@pytest.mark.fault("file")
@pytest.mark.parametrize("junk", [5, "text", None, [], {}, torch.zeros(2)], ids=lambda junk: type(junk).__name__)
def test_a_state_with_something_else_in_it_is_one_sentence(spec, tmp_path, junk):
    first = trainer(spec, tmp_path)
    state = first._state()
    for key, value in state.items():
        if key == "best" or value is None or isinstance(junk, type(value)):
            continue
        checkpoint.save(tmp_path, first._identity, state | {key: junk})
        with pytest.raises(UserError, match=r"\.pt holds no state of this run; delete it, and the run starts anew"):
            trainer(spec, tmp_path)


@pytest.mark.fault("file")
def test_a_state_that_lacks_a_part_is_one_sentence(spec, tmp_path):
    first = trainer(spec, tmp_path)
    state = first._state()
    for key in state:
        checkpoint.save(tmp_path, first._identity, {other: value for other, value in state.items() if other != key})
        with pytest.raises(UserError, match="holds no state of this run"):
            trainer(spec, tmp_path)


@pytest.mark.fault("file")
@pytest.mark.parametrize("key", ["packages", "hardware", "precision"])
@pytest.mark.parametrize("junk", [5, [1], None, {"torch": 5}])
def test_what_an_identity_says_may_be_anything(tmp_path, key, junk):
    checkpoint.save(tmp_path, IDENTITY | {key: junk}, STATE)
    with pytest.raises(UserError, match="was made with another|is no checkpoint"):
        checkpoint.load(tmp_path, IDENTITY, CPU)


@pytest.mark.fault("file")
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), cut=st.none() | st.floats(0, 1))
def test_no_damaged_byte_is_gone_on_from(tmp_path_factory, place, change, cut):
    folder = tmp_path_factory.mktemp("resume")
    checkpoint.save(folder, IDENTITY, STATE)
    file = checkpoint.file_of(folder, IDENTITY)
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= change
    file.write_bytes(content if cut is None else content[: int(cut * len(content))])
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load(folder, IDENTITY, CPU)
