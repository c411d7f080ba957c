"""Whatever lies under the name of a file: reading it gives what was written there, or one sentence that names it."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiment import record, weights
from experiment.errors import UserError
from training import checkpoint

pytestmark = pytest.mark.fault("file")

IDENTITY = {"spec": {"seed": 0}, "hardware": "a CPU, 1 thread", "packages": {"torch": "2.15.0"}, "code": "0" * 64}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
CPU = torch.device("cpu")


@st.composite
def damages(draw):
    """A function that spoils bytes: cut off, bits flipped, bytes put in or exchanged, or others altogether."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "swap", "other"]))
    share, junk = draw(st.floats(0, 1)), draw(st.binary(max_size=40))

    def spoil(content: bytes) -> bytes:
        place = min(int(share * len(content)), len(content) - 1)
        if kind == "flip":
            return content[:place] + bytes([content[place] ^ (1 << len(junk) % 8)]) + content[place + 1 :]
        rest = {"cut": b"", "insert": junk + content[place:], "swap": junk + content[place + len(junk) :]}
        return junk if kind == "other" else content[:place] + rest[kind]

    return spoil


def read(reader, *arguments):
    """What was read, or None and the sentence in which it was refused."""
    try:
        return reader(*arguments), ""
    except UserError as error:
        return None, str(error)


@given(damage=damages())
def test_weights_are_those_that_were_saved_or_refused(tmp_path_factory, damage):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    saved = {"kernel": torch.arange(6.0).reshape(2, 3), "batches": torch.tensor(7)}
    digest = weights.save(path, saved)
    path.write_bytes(damage(path.read_bytes()))
    found, refusal = read(weights.load, path, digest)
    if found is None:
        assert refusal.startswith(f"{path} ")
    else:
        assert found.keys() == saved.keys()
        assert all(torch.equal(found[name], value) for name, value in saved.items())


@given(
    head=st.dictionaries(st.text(max_size=5), st.recursive(st.integers() | st.text(max_size=5), st.lists), max_size=3)
)
def test_weights_with_any_head_are_refused(tmp_path_factory, head):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    text = json.dumps({"kernel": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, **head}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    assert read(weights.load, path, "0" * 64)[1].startswith(f"{path} ")
    path.write_bytes((10**12).to_bytes(8, "little") + text)
    assert read(weights.load, path, "0" * 64)[1].startswith(f"{path} ")


@given(damage=damages())
def test_a_checkpoint_is_the_one_that_was_saved_or_refused(tmp_path_factory, damage):
    folder = tmp_path_factory.mktemp("resume")
    checkpoint.save(folder, IDENTITY, {"sums": torch.ones(3), "rows": [{"epoch": 0}]})
    path = checkpoint.file_of(folder, IDENTITY)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    state, refusal = read(checkpoint.load, folder, IDENTITY, CPU)
    if state is None:
        assert refusal.startswith(f"{path} ")
    else:
        assert path.read_bytes() == whole
        assert state["rows"] == [{"epoch": 0}]


@given(text=st.text() | ANYTHING.map(json.dumps) | st.integers(1, 100_000).map(lambda depth: "[" * depth))
def test_a_text_that_is_no_record_is_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("record") / "train.json"
    path.write_text(text)
    found, refusal = read(record.read, path)
    assert found is None
    assert refusal.startswith(f"{path}: ")
