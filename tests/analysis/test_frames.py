"""CSV files: what is in a cell is what its column was declared to have."""

import pytest

from analysis.frames import read_csv
from experiment.errors import UserError

TYPES = {"variant": str, "seed": int, "accuracy": float}
LABELS = ["1.0", "010", "1e5", "nan", "none", "null", "na", "true", "inf", "0x10", "2026-11-27"]


@pytest.mark.fault("input")
def test_labels_stay_the_text_that_they_are(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text("seed,variant,other,accuracy\n" + "".join(f"3,{label},x,0.5\n" for label in LABELS) + "4,,x,\n")
    frame = read_csv(file, TYPES)
    assert list(frame["variant"]) == [*LABELS, ""]
    assert set(frame) == set(TYPES)
    assert frame["accuracy"].isna().sum() == 1
    assert frame["seed"].tolist() == [3] * len(LABELS) + [4]


@pytest.mark.fault("file")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"variant,seed\na,1\n",
        b"variant,seed,accuracy\na,one,0.5\n",
        b"variant,seed,accuracy\na,,0.5\n",
        b"variant,seed,accuracy\na,1,good\n",
        b"variant,seed,accuracy\na,99999999999999999999999,0.5\n",
        b"variant,seed,accuracy\na,1,0.5,0.5,0.5\n\xff",
        b'variant,seed,accuracy\n"a,1,0.5\n',
        b"\0\0\0",
    ],
)
def test_a_file_of_another_form_is_named_in_one_sentence(tmp_path, content):
    file = tmp_path / "runs.csv"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"runs\.csv: not readable as a table with the columns variant") as caught:
        read_csv(file, TYPES)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="absent.csv"):
        read_csv(tmp_path / "absent.csv", TYPES)
