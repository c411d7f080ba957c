"""README.md shows what the committed reference records say."""

from pathlib import Path

import pytest

from evaluation import readme
from experiment.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_readme_is_not_stale_against_the_reference_records():
    reference = ROOT / "results" / "reference" / readme.SUITE
    text = (ROOT / "README.md").read_text()
    assert readme.rewritten(text, readme.section(reference, f"results/reference/{readme.SUITE}")) == text


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    for part in text.split("](")[1:]:
        target = part.partition(")")[0]
        assert (ROOT / target).exists(), target


def test_publishing_an_unfinished_suite_is_refused(tmp_path):
    with pytest.raises(UserError, match="summary"):
        readme.publish(tmp_path, tmp_path / "reference")


def test_a_readme_without_the_markers_is_refused():
    with pytest.raises(UserError, match="begin"):
        readme.rewritten("# Title\n", "table")
