import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiment import weights
from experiment.errors import UserError


def some(seed=0):
    draw = torch.Generator().manual_seed(seed)
    kernel = torch.randn(4, 3, 2, 2, generator=draw).to(memory_format=torch.channels_last)
    return {"kernel": kernel, "mean": torch.randn(3, generator=draw), "batches": torch.tensor(7)}


def test_what_is_saved_is_what_is_loaded_and_has_the_digest_that_was_returned(tmp_path):
    digest = weights.save(tmp_path / "w.safetensors", some())
    loaded = weights.load(tmp_path / "w.safetensors", digest)
    assert loaded.keys() == some().keys()
    assert all(torch.equal(value, loaded[name]) for name, value in some().items())
    assert weights.sha256(loaded) == digest == weights.sha256(some())


@given(name=st.sampled_from(["kernel", "mean", "batches"]), bit=st.integers(0, 7))
def test_the_digest_depends_on_every_value(name, bit):
    changed = some()
    changed[name] = changed[name].contiguous()
    changed[name].reshape(-1).view(torch.uint8)[-1] ^= 1 << bit
    assert weights.sha256(changed) != weights.sha256(some())


def test_the_digest_depends_on_names_shapes_and_types():
    one = {"a": torch.zeros(4)}
    others = [{"b": torch.zeros(4)}, {"a": torch.zeros(2, 2)}, {"a": torch.zeros(4, dtype=torch.int32)}]
    assert len({weights.sha256(found) for found in [one, *others]}) == 4


def test_other_weights_than_those_expected_are_refused(tmp_path):
    file = tmp_path / "w.safetensors"
    digest = weights.save(file, some())
    weights.save(file, some(seed=1))
    with pytest.raises(UserError, match="train the run again"):
        weights.load(file, digest)


@pytest.mark.fault("file")
def test_weights_of_every_type_have_a_digest_and_a_folder_has_none(tmp_path):
    kinds = [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.bool, torch.complex64]
    digest = weights.save(tmp_path / "w.safetensors", {str(kind): torch.zeros(3, dtype=kind) for kind in kinds})
    assert weights.load(tmp_path / "w.safetensors", digest).keys() == {str(kind) for kind in kinds}
    with pytest.raises(UserError, match="cannot be read"):
        weights.load(tmp_path, digest)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_file_that_is_cut_off_is_damaged(tmp_path, length):
    file = tmp_path / "w.safetensors"
    digest = weights.save(file, some())
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match="is damaged"):
        weights.load(file, digest)
