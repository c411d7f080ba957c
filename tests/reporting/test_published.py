"""The published numbers: their file, and which of our variants are theirs."""

import csv

import pytest
from test_literature import EPS, suite_with

from analysis import published
from analysis.published import COLUMNS, SOURCES, counterpart, read_published
from experiment.errors import UserError
from experiment.suite import ROOT, Suite


def variant_of(method, options=None, **steps):
    """A variant as it is resolved, of this method and steps."""
    content = {"label": "pgd-7", "method": method, "steps": steps, "options": options or {}}
    return suite_with(content).resolved["variants"][0]


@pytest.mark.parametrize(
    ("method", "steps", "options", "expected"),
    [
        ("pgd", {}, {}, ("pgd-7", "constant")),
        ("pgd", {"steps": 10}, {}, ("pgd-10", "constant")),
        ("pgd", {"rule": "amata"}, {}, ("amata-2-10", "amata")),
        ("pgd", {"rule": "mplus-2021"}, {}, ("pgd", "mplus-2021")),
        ("pgd", {"rule": "mplus-2021", "most": 5}, {}, None),
        ("pgd", {"rule": "mplus-2021", "guard": True}, {}, None),
        ("pgd", {"rule": "mplus"}, {}, None),
        ("pgd", {"rule": "every"}, {}, None),
        ("free", {}, {}, ("free-8", "constant")),
        ("free", {"steps": 4}, {}, ("free-4", "constant")),
        ("free", {"rule": "mplus"}, {}, None),
        ("fast", {}, {}, ("fgsm-rs", "constant")),
        ("fast", {"steps": 2}, {}, None),
        ("fast", {}, {"start": "zero"}, None),
        ("fast", {"rule": "mplus-2021"}, {}, None),
        ("n_fgsm", {}, {}, ("n-fgsm", "constant")),
        ("trades", {}, {}, ("trades", "constant")),
        ("trades", {"steps": 5}, {}, None),
        ("mart", {"rule": "mplus-2021"}, {}, ("mart", "mplus-2021")),
        ("mart", {"rule": "mplus"}, {}, None),
        ("yopo", {}, {}, ("yopo-5-3", "constant")),
        ("yopo", {}, {"inner_steps": 2}, ("yopo-5-2", "constant")),
        ("yopo", {"rule": "mplus"}, {}, None),
        ("deat", {"rule": "every"}, {}, None),
        ("deat", {"rule": "constant"}, {}, None),
        ("deat", {"rule": "mplus-2021"}, {}, ("deat", "mplus-2021")),
        ("deat", {"rule": "mplus"}, {}, ("deat", "mplus-2021")),
        ("deat", {"rule": "mplus", "step_size": "0.5 eps"}, {}, None),  # there the two forms of M+ differ
        ("deat", {"rule": "mplus", "guard": True}, {}, None),
    ],
)
def test_a_variant_has_the_counterpart_of_its_method_rule_and_steps_whatever_its_label(
    method, steps, options, expected
):
    assert counterpart(variant_of(method, options, **steps), EPS) == expected


def test_every_counterpart_of_the_suites_of_this_project_on_cifar10_is_in_published_csv():
    rows, _ = read_published()
    known = set(zip(rows["method"], rows["steps_rule"], strict=True))
    for name in ("cifar10", "cifar10_fast"):
        resolved = Suite.load(ROOT / "configs" / f"{name}.yaml").resolved
        found = {counterpart(variant, EPS) for variant in resolved["variants"]} - {None}
        assert found
        assert found <= known


def test_the_published_numbers_of_this_project_are_whole_and_each_network_and_attack_has_one():
    rows, sources = read_published()
    with open(published.PUBLISHED, newline="") as file:
        assert next(csv.reader(file)) == COLUMNS
    assert len(rows) > 150
    assert not rows.duplicated([column for column in COLUMNS if column != "accuracy_percent"]).any()
    assert rows["accuracy_percent"].between(5, 95).all()
    assert set(rows["source"]) == set(sources)
    for _, network in rows.groupby([c for c in COLUMNS if c not in ("attack", "accuracy_percent")], dropna=False):
        accuracy = network.set_index("attack")["accuracy_percent"]
        assert accuracy["clean"] > accuracy.drop("clean").max()
        if "autoattack" in accuracy:
            assert accuracy["autoattack"] == accuracy.min()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("steps_rule,", "", 1), "line 1: no column steps_rule"),
        (lambda text: text.replace("85.1,83.1", "85.1 %,83.1", 1), "line 2, column accuracy_percent: '85.1 %'"),
        (lambda text: text.replace("47.17,83.1", "nan,83.1", 1), "line 3, column accuracy_percent: 'nan'"),
        (lambda text: text.replace("85.1,83.1", ",83.1", 1), "line 2, column accuracy_percent: it is empty"),
        (
            lambda text: text.replace("DEAT table 1", "DEAT table 9", 1),
            "line 2, column source: 'DEAT table 9' is not in",
        ),
        (lambda text: text.replace("85.1,83.1", "85.1,83.1,1,2", 1), "line 2: it must have as many cells"),
        (lambda text: text + '"unfinished', "not readable as CSV"),
    ],
)
def test_a_damaged_file_of_published_numbers_is_told_by_file_line_and_column(tmp_path, change, message):
    path = tmp_path / "published.csv"
    path.write_text(change(published.PUBLISHED.read_text()))
    (tmp_path / SOURCES).write_text((published.PUBLISHED.parent / SOURCES).read_text())
    with pytest.raises(UserError, match="published.csv") as error:
        read_published(path)
    assert message in str(error.value)


def test_a_source_that_lacks_a_key_is_told(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(published.PUBLISHED.read_text())
    (tmp_path / SOURCES).write_text("DEAT table 1: {title: a, url: b, seeds: 1, training: {}}\n")
    with pytest.raises(UserError, match="DEAT table 1 has no key checkpoint"):
        read_published(path)
