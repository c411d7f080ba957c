"""Verdicts count only as the record counted them, whatever lies in their file."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.errors import UserError
from experiment.verdicts import read_verdicts

ROBUST = np.arange(300) % 3 > 0
RECORD = {"images": 300, "correct": int(ROBUST.sum())}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


WHOLE = npy(ROBUST)


def header(text: str) -> bytes:
    """A file whose header says `text`, with the verdicts behind it."""
    padded = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + ROBUST.tobytes()


def test_what_was_saved_is_read(tmp_path):
    (tmp_path / "v.npy").write_bytes(WHOLE)
    assert np.array_equal(read_verdicts(tmp_path / "v.npy", RECORD), ROBUST)


@pytest.mark.fault("file")
@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '|b1', 'fortran_order': False, 'shape': (1000000000000,), }"),
        header("{'descr': '|b1', 'fortran_order': False, 'shape': (-300,), }"),
        header("{'descr': '|b1', 'fortran_order': False, 'shape': (300, 1000000000000), }"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (300,), }"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (300,), }"),
        header("{'descr': [('a', '|b1')], 'fortran_order': False, 'shape': (300,), }"),
        header("{'descr': '|b1', 'fortran_order': False, 'shape': (300,), "),
        header("(" * 100),
        header("'" * 99),
        header(""),
        header("{'descr': '|b1', 'fortran_order': False, 'shape': (300,), }")[:-1],
        header("{'descr': '|b1', 'fortran_order': False, 'shape': (300,), }") + b"\x01",
        header("{'descr': '|b1', 'fortran_order': False, 'shape': (300,), }")[:-1] + b"\x02",
        b"\x93NUMPY\x03\x00\xff\xff\xff\xff" + WHOLE,
        b"PK\x03\x04" + WHOLE,
        b"",
    ],
)
def test_a_header_that_is_damaged_or_claims_what_is_not_there_is_one_sentence(tmp_path, content):
    (tmp_path / "v.npy").write_bytes(content)
    with pytest.raises(UserError, match="v.npy: "):
        read_verdicts(tmp_path / "v.npy", RECORD)


@pytest.mark.fault("file")
@given(place=st.integers(0, len(WHOLE) - 1), change=st.integers(1, 255), cut=st.none() | st.integers(0, len(WHOLE) - 1))
def test_no_damage_changes_a_count_or_is_more_than_a_sentence(tmp_path_factory, place, change, cut):
    content = bytearray(WHOLE)
    content[place] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    path.write_bytes(content[:cut])
    with suppress(UserError):
        assert int(read_verdicts(path, RECORD).sum()) == RECORD["correct"]
