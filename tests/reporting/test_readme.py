"""README.md shows what the committed reference records say; `make readme` makes it say so again."""

import shutil

import pytest
from matplotlib.image import imread

from analysis.results import collate
from experiment.errors import UserError
from experiment.suite import ROOT, Suite
from reporting import plots, readme
from reporting.collate import report

REFERENCE = ROOT / "results" / "reference" / readme.SUITE


@pytest.fixture(scope="module")
def suite():
    return Suite.load(ROOT / "configs" / f"{readme.SUITE}.yaml")


def test_the_readme_is_not_stale_against_the_reference_tables():
    text = (ROOT / "README.md").read_text()
    assert readme.rewritten(text, readme.section(REFERENCE, f"results/reference/{readme.SUITE}")) == text


def test_the_reference_tables_are_those_of_the_reference_records(tmp_path, suite, monkeypatch):
    copy = tmp_path / readme.SUITE
    shutil.copytree(REFERENCE, copy, ignore=shutil.ignore_patterns("runs.csv", "tables", "plots"))
    monkeypatch.setattr(plots, "draw", lambda *_: {})
    assert report(suite, copy) == 0
    made = {path.relative_to(copy): path.read_bytes() for path in [copy / "runs.csv", *(copy / "tables").iterdir()]}
    listed = [REFERENCE / "runs.csv", *(REFERENCE / "tables").iterdir()]
    assert {path.relative_to(REFERENCE) for path in listed} == set(made)
    for name, content in made.items():
        assert (REFERENCE / name).read_bytes() == content, f"{name} is stale; `make readme` renews it"


def test_the_reference_plots_are_all_there_and_no_others(suite):
    """Their bytes depend on the version of matplotlib; what there is to draw does not."""
    found = collate(suite, REFERENCE)
    stems = set(plots.texts(suite, found.runs, found.epochs))
    assert {path.name for path in (REFERENCE / "plots").iterdir()} == {
        f"{s}.{e}" for s in stems for e in ("svg", "png")
    }


def test_the_pictures_that_the_readme_shows_are_pictures():
    shown = [part.partition(")")[0] for part in (ROOT / "README.md").read_text().split("![")[1:]]
    pictures = [ROOT / part.partition("](")[2] for part in shown]
    assert [path.name for path in pictures] == ["accuracy_vs_compute.png", "training.png"]
    for path in pictures:
        assert imread(path).std() > 0.01  # not blank


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    for part in text.split("](")[1:]:
        target = part.partition(")")[0]
        assert (ROOT / target).exists(), target


def test_publishing_an_unfinished_suite_is_refused(tmp_path):
    with pytest.raises(UserError, match="summary"):
        readme.publish(tmp_path, tmp_path / "reference")


def test_a_reference_without_records_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no training record of suite quick"):
        readme.section(tmp_path, "reference")


def test_a_readme_without_the_markers_is_refused():
    with pytest.raises(UserError, match="begin"):
        readme.rewritten("# Title\n", "table")
