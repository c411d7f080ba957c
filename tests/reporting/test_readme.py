"""README.md shows what the committed reference records say; `make readme` makes it say so again."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.image import imread
from synthetic import made_up_suite, write_results

from analysis import digests
from analysis.results import collate
from experiment import claim
from experiment.errors import UserError
from experiment.suite import ROOT, Suite
from reporting import plots, readme
from reporting.collate import report

REFERENCES = ROOT / "results" / "reference"
PUBLISHED = sorted(path.parent.name for path in REFERENCES.glob(f"*/{claim.COPY}"))


@pytest.fixture(scope="module", params=PUBLISHED)
def suite(request):
    return Suite.load(ROOT / "configs" / f"{request.param}.yaml")


def test_the_readme_is_not_stale_against_the_reference_tables(suite):
    text = (ROOT / "README.md").read_text()
    shown = readme.section(suite, REFERENCES / suite.name, f"results/reference/{suite.name}")
    assert readme.rewritten(text, suite.name, shown) == text


def test_the_readme_shows_one_published_suite():
    text = (ROOT / "README.md").read_text()
    assert sum(readme.markers(name)[0] in text and readme.markers(name)[1] in text for name in PUBLISHED) == 1


def test_the_reference_tables_are_those_of_the_reference_records(tmp_path, suite, monkeypatch):
    reference, copy = REFERENCES / suite.name, tmp_path / suite.name
    shutil.copytree(reference, copy, ignore=shutil.ignore_patterns("runs.csv", "tables", "plots"))
    monkeypatch.setattr(plots, "draw", lambda *_: {})
    assert report(suite, copy) == 0
    made = {path.relative_to(copy): path.read_bytes() for path in [copy / "runs.csv", *(copy / "tables").iterdir()]}
    listed = [reference / "runs.csv", *(reference / "tables").iterdir()]
    assert {path.relative_to(reference) for path in listed} == set(made)
    for name, content in made.items():
        assert (reference / name).read_bytes() == content, f"{name} is stale; `make readme` renews it"


def test_the_reference_plots_are_all_there_and_no_others(suite):
    """Their bytes depend on the version of matplotlib; what there is to draw does not."""
    found = collate(suite, REFERENCES / suite.name)
    stems = set(plots.texts(suite, found.runs, found.epochs))
    assert {path.name for path in (REFERENCES / suite.name / "plots").iterdir()} == {
        f"{s}.{e}" for s in stems for e in ("svg", "png")
    }


def test_the_pictures_that_the_readme_shows_are_pictures():
    shown = [part.partition(")")[0] for part in (ROOT / "README.md").read_text().split("![")[1:]]
    pictures = [ROOT / part.partition("](")[2] for part in shown]
    assert [path.name for path in pictures] == ["accuracy_vs_compute.png", "training.png"]
    for path in pictures:
        assert imread(path).std() > 0.01  # not blank


def test_the_costs_that_the_documentation_quotes_are_those_of_the_reference():
    costs = pd.read_csv(REFERENCES / "quick" / "tables" / "cost.csv").set_index("variant")
    quoted = re.findall(
        r"^\| (\S+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", (ROOT / "docs/cost.md").read_text(), re.MULTILINE
    )
    quoted = [numbers for numbers in quoted if numbers[0] in costs.index]
    assert {label for label, *_ in quoted} == {"pgd-7", "free-8", "yopo-5-3"}
    for label, *numbers in quoted:
        means = costs.loc[label, ["passes_mean", "compute_mean", "seconds_mean"]]
        assert numbers == [f"{mean:.{places}f}" for mean, places in zip(means, (0, 1, 1), strict=True)]


def test_the_losses_that_the_readme_quotes_are_those_of_the_reference():
    effect = pd.read_csv(REFERENCES / "cifar10_cpu" / "tables" / "effect.csv")
    cheaper = effect[effect["compute_ratio_mean"] > 1.05]
    lost = sorted(-points for points in cheaper["pgd-20_points_mean"] if points < 0)
    assert (len(cheaper), len(lost)) == (4, 3)
    said = f"of the four comparisons in which M+ saves, three lose {lost[0]:.1f} to {lost[-1]:.1f} points under PGD-20"
    assert said in " ".join((ROOT / "README.md").read_text().split())


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    for part in text.split("](")[1:]:
        target = part.partition(")")[0]
        assert (ROOT / target).exists(), target


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Makes results of a suite, as Snakemake leaves them at its end, in which only tables are looked at."""
    monkeypatch.chdir(tmp_path)

    def make(suite):
        results = tmp_path / "results"
        shutil.rmtree(results, ignore_errors=True)
        folder = write_results(results, suite)
        report(suite, folder)
        (folder / "summary.txt").write_text("of these runs alone")
        claim.stake(folder, ["made.yaml"], suite, {})
        digests.main([str(folder / claim.COPY)])
        return folder

    return make


@pytest.mark.parametrize("lacking", ["summary.txt", "suite.yaml", "digests.json", "digits/fast/seed0/train.json"])
def test_publishing_an_unfinished_suite_is_refused(tmp_path, finished, lacking):
    suite = made_up_suite()
    folder = finished(suite)
    (folder / lacking).unlink()
    with pytest.raises(UserError, match="is not finished, for .*run snakemake to its end first"):
        readme.publish(suite, Path("made.yaml"), folder, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def test_seeds_that_were_published_before_stay_when_others_are_and_the_tables_are_of_all(tmp_path, finished):
    reference, file, whole = tmp_path / "reference", Path("made.yaml"), made_up_suite()
    for seeds, numbers in ((whole.seeds[:1], ["0"]), (whole.seeds[1:], [str(seed) for seed in whole.seeds])):
        readme.publish(whole, file, finished(made_up_suite(seeds=seeds)), reference)
        found = collate(whole, reference)
        assert sorted(set(found.runs["seed"].astype(str))) == numbers
    assert not found.missing
    assert (reference / "runs.csv").read_text() == found.runs_csv()
    assert (reference / claim.COPY).read_text().partition("\n")[2] == claim.content(whole)
    assert "3 seeds (0, 1, 2)" in (reference / "summary.txt").read_text()


def test_a_published_run_that_the_suite_does_not_name_is_not_thrown_away(tmp_path, finished):
    reference, file = tmp_path / "reference", Path("made.yaml")
    readme.publish(made_up_suite(seeds=[0]), file, finished(made_up_suite(seeds=[0])), reference)
    other = made_up_suite(seeds=[1])
    with pytest.raises(UserError, match=r"has digits/deat\+mplus/seed0, which made.yaml has not"):
        readme.publish(other, file, finished(other), reference)
    assert (reference / "digits/fast/seed0/train.json").exists()


def test_a_run_that_the_suite_does_not_name_is_not_published(tmp_path, finished):
    reference, file = tmp_path / "reference", Path("made.yaml")
    readme.publish(made_up_suite(seeds=[1]), file, finished(made_up_suite()), reference)
    assert {path.parent.name for path in reference.glob("digits/*/*/train.json")} == {"seed1"}


def test_a_reference_without_records_is_refused(tmp_path):
    suite = made_up_suite()
    with pytest.raises(UserError, match=f"has no training record of suite {suite.name}"):
        readme.section(suite, tmp_path, "reference")


def test_a_readme_without_the_markers_stays_as_it_is():
    assert readme.rewritten("# Title\n", "quick", "table") == "# Title\n"
