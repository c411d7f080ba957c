"""Every column of every CSV is declared once, with its unit and its meaning."""

import csv
import io

import pandas as pd
import pytest
from synthetic import VARIANTS, made_up_suite, write_results

from analysis import columns, frames
from analysis.results import collate
from reporting import tables

ATTACKS = ("clean", "autoattack")
FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast")}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The text of every CSV of a suite with a collapsed and a diverged run, by its name in columns.FILES."""
    suite = made_up_suite(FEW, seeds=(0, 1), attacks=ATTACKS, epochs=4)
    folder = tmp_path_factory.mktemp("results")
    folder = write_results(folder, suite, variants=FEW, collapsed=[("fast", 1)], diverged=[("pgd-7", 0)])
    results = collate(suite, folder)
    files = {"runs.csv": results.runs_csv()}
    for table in tables.build(suite, results.runs):
        files[f"tables/{table.name}.csv"] = table.files()[f"{table.name}.csv"]
    files["<dataset>/<variant>/seed<k>/epochs.csv"] = (folder / "digits/fast/seed0/epochs.csv").read_text()
    return files


def test_the_page_is_not_stale():
    assert columns.PAGE.read_text() == columns.page(), "`python -m analysis.columns` renews it"


def test_every_file_has_the_columns_that_are_declared_and_no_others(written):
    assert set(written) == set(columns.FILES)
    for name, text in written.items():
        head = next(csv.reader(io.StringIO(text)))
        assert sorted(head) == sorted(columns.names(columns.FILES[name][1], ATTACKS)), name


def test_training_writes_the_columns_that_are_declared(checkpoint):
    with open(checkpoint.folder / "epochs.csv", newline="") as file:
        assert next(csv.reader(file)) == columns.names(columns.EPOCHS)


def test_cells_are_of_the_declared_type(written, tmp_path):
    for name, text in written.items():
        declared = [column for column in columns.FILES[name][1] if columns.ATTACK not in column.name]
        path = tmp_path / "file.csv"
        path.write_text(text)
        frame = frames.read_csv(path, columns.types(declared))
        assert len(frame) == text.count("\n") - 1


def test_a_column_that_is_not_declared_is_not_written():
    frame = pd.DataFrame({"seed": [0], "colour": ["red"]})
    with pytest.raises(ValueError, match=r"runs\.csv: the column 'colour' is not declared in analysis/columns\.py"):
        frames.to_csv("runs.csv", frame)


def test_a_column_of_an_attack_that_the_suite_lacks_is_not_written():
    frame = pd.DataFrame({"pgd-20_percent_mean": [50.0]})
    assert "50" in frames.to_csv("tables/robustness.csv", frame, ["pgd-20"])
    with pytest.raises(ValueError, match="pgd-20_percent_mean"):
        frames.to_csv("tables/robustness.csv", frame, ["pgd-50"])


@pytest.mark.parametrize("file", columns.FILES)
def test_no_column_is_declared_twice_or_without_a_meaning(file):
    declared = columns.FILES[file][1]
    names = columns.names(declared, ATTACKS)
    assert len(set(names)) == len(names)
    assert all(column.meaning and "|" not in column.meaning for column in declared)
