"""Damaged, foreign and hostile files among the results: each is named and left out, and the rest is collated."""

import json

import pytest
from synthetic import VARIANTS, edit, made_up_suite, write_results

from analysis.results import collate
from reporting.collate import report
from reporting.page import render

pytestmark = pytest.mark.fault("file")

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus")}
FIELDS = ["cost", "epochs", "provenance", "spec", "settings", "status_epoch", "seed", "images"]
VALUES = ['"text"', "[]", "{}", "-1", "1e400", "null", "true", "1.5", "9" * 400, "[" * 50 + "]" * 50]


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, seeds=(0,), epochs=4)


@pytest.fixture
def folder(tmp_path, suite):
    return write_results(tmp_path, suite, variants=FEW)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.replace(b"(360,)", b"(%d,)" % 10**12),
        lambda content: content.replace(b"(360,)", b"(((((,)"),
        lambda content: content.replace(b"'|b1'", b"'|O1'"),
        lambda content: content.replace(b"'descr'", b'"""descr'),
        lambda content: content.replace(b"{", b"\xff"),
        lambda content: content[:-1] + b"\x07",
        lambda content: content + b"junk",
    ],
)
def test_verdicts_that_are_damaged_are_named(folder, suite, damage):
    path = folder / "digits/pgd-7/seed0/evaluate/pgd-20.robust.npy"
    path.write_bytes(damage(path.read_bytes()))
    found = collate(suite, folder)
    (problem,) = found.problems
    assert problem.startswith(f"{path}: ")
    assert found.missing == ["pgd-7 seed 0 pgd-20"]


def test_verdicts_of_more_images_than_memory_holds_are_named_even_where_their_record_agrees(folder, suite):
    path = folder / "digits/pgd-7/seed0/evaluate/pgd-20.robust.npy"
    path.write_bytes(path.read_bytes().replace(b"(360,)", b"(%d,)" % 10**12))
    edit(path.parent / "pgd-20.json", images=10**12, correct=1, accuracy=1e-12)
    (problem,) = collate(suite, folder).problems
    assert problem.startswith(f"{path}: ")


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS)
def test_a_record_with_a_field_of_another_type_is_named(folder, suite, field):
    place = folder / "digits/pgd-7/seed0"
    path = place / ("evaluate/clean.json" if field in ("settings", "images") else "train.json")
    whole = json.loads(path.read_text())
    for value in VALUES:
        path.write_text(json.dumps(whole | {field: "HERE"}).replace('"HERE"', value))
        found = collate(suite, folder)
        assert set(found.runs["variant"]) >= {"pgd+mplus"}
        if (field, value) != ("status_epoch", "null"):
            (problem,) = found.problems
            assert problem.startswith(f"{path}: ")
            assert len(problem) < len(str(path)) + 500


@pytest.mark.slow
def test_text_from_a_record_is_text_wherever_it_is_shown(folder, suite, capsys):
    for label in ("pgd-7", "pgd+mplus"):
        path = folder / f"digits/{label}/seed0/train.json"
        provenance = json.loads(path.read_text())["provenance"]
        hostile = "\x1b[31m\x07<img src=x onerror=alert(1)> ![it](http://there/it.png)\nnext \u202e \ud800"
        edit(path, provenance=provenance | {"hardware": provenance["hardware"] | {"label": hostile}})
    report(suite, folder)
    said, page = capsys.readouterr(), render(suite, folder)
    tables = {file.name: file.read_text() for file in [folder / "runs.csv", *(folder / "tables").iterdir()]}
    for text in [said.out, said.err, page, *tables.values()]:
        assert not any(letter in text for letter in "\x1b\x07\u202e")
    for name in ("robustness.md", "cost.md"):
        assert "<img src=x" not in tables[name]
        assert "](http://there" not in tables[name]
        assert "&lt;img src=x" in tables[name]
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
