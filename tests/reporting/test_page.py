import csv
import io
import json
import math
import re
import sys
import tomllib
from collections import Counter
from html.parser import HTMLParser

import pytest
import yaml
from synthetic import VARIANTS, edit, made_up_suite, write_results

from analysis.results import collate
from experiment.errors import UserError
from experiment.suite import ROOT
from reporting.formatting import Cell
from reporting.page import main, render, sortable, write
from reporting.summary import summary

pytestmark = pytest.mark.slow

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast")}
PIXEL = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def suite():
    return made_up_suite(FEW, seeds=(0, 1), epochs=4)


@pytest.fixture
def folder(tmp_path, suite):
    return write_results(tmp_path, suite, variants=FEW, collapsed={("fast", 1)}, diverged={("pgd-7", 0)})


class Page(HTMLParser):
    """What a browser without scripts finds in a page: its words, names, addresses and images."""

    def __init__(self, html):
        super().__init__()
        self.words, self.names, self.addresses, self.images, self.inside = [], [], [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names += [attributes["id"]] if "id" in attributes else []
        self.addresses += [attributes[key] for key in ("src", "href", "srcset", "action") if key in attributes]
        self.images += [attributes] if tag == "img" else []
        self.inside += [tag] if tag in ("script", "style") else []

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


def section(html, run):
    """The part of the page that is about one run, as text."""
    return Page(html.partition(f'id="run-{run}"')[2].partition("</details>")[0]).text


def test_the_page_asks_for_nothing_outside_itself(suite, folder):
    html = render(suite, folder)
    assert {address.partition(":")[0] for address in Page(html).addresses if address[0] != "#"} == {"data"}
    ours = html.replace(re.search(r'from "data:[^"]+"', html)[0], "")
    assert not re.search(r"url\(|@import|https?:|//[a-z]+\.", ours)


def test_every_link_leads_to_one_place_in_the_page(suite, folder):
    page = Page(render(suite, folder))
    assert [name for name, count in Counter(page.names).items() if count > 1] == []
    links = {address[1:] for address in page.addresses if address.startswith("#")}
    assert links <= set(page.names)
    assert {f"run-digits/{label}/seed{seed}" for label in FEW for seed in (0, 1)} <= links
    assert {"runs-of-digits/pgd-7", "robustness", "protocol"} <= links


def test_the_summary_comes_first_then_questions_in_a_readers_order(suite, folder):
    html = render(suite, folder)
    text = Page(html).text
    places = [text.index(sentence) for sentence in summary(suite, collate(suite, folder).runs)]
    assert places == sorted(places)
    names = ["summary", "effect", "robustness", "cost", "runs", "protocol", "cite", "again"]
    found = [html.index(f'<section id="{name}"') for name in names]
    assert found == sorted(found)
    assert places[-1] < text.index("fewer passes")


def test_what_is_missing_or_in_doubt_is_said_before_any_number(suite, folder):
    (folder / "digits" / "pgd+mplus" / "seed1" / "train.json").unlink()
    edit(folder / "digits" / "fast" / "seed0" / "train.json", status="splendid")
    edit(folder / "digits" / "fast" / "seed1" / "evaluate" / "autoattack.json", flags=["a flag of its own"])
    text = Page(render(suite, folder)).text
    first = text[: text.index("What M+ changes")]
    for count in ("4 of 6 runs", "16 of 24 evaluations", "1 collapsed", "1 diverged", "1 suspect", "1 unusable file "):
        assert count in first
    assert "pgd+mplus seed 1 (not trained)" in first
    assert "digits/fast/seed0/train.json: status" in first
    assert str(folder) not in text  # the page is for other machines too
    runs = text[text.index("A name leads to the run") :]
    assert runs.count("not trained") == 2
    assert re.search(r"fast 1 collapsed, suspect", runs)


def test_a_run_has_its_configuration_epochs_attacks_and_provenance(suite, folder):
    html = render(suite, folder)
    place = folder / "digits" / "pgd+mplus" / "seed1"
    train = json.loads((place / "train.json").read_text())
    text = section(html, "digits/pgd+mplus/seed1")
    assert "steps.rule mplus" in text
    assert f"steps.gamma {train['spec']['steps']['gamma']:g}" in text
    assert train["weights_sha256"] in text
    assert train["provenance"]["hardware"]["label"] in text
    for attack in ("clean", "pgd-20", "margin-20", "autoattack"):
        found = json.loads((place / "evaluate" / f"{attack}.json").read_text())
        assert f"{attack} {found['images']} {found['correct']} {100 * found['accuracy']:.2f}" in text
    with open(place / "epochs.csv", newline="") as file:
        epochs = list(csv.DictReader(file))
    for line in epochs:
        seconds = " ".join(f"{float(line[column]):.4g}" for column in ("seconds", "cpu_seconds"))
        counts = " ".join(f"{float(line[column]):.4g}" for column in ("compute", "passes"))
        assert f"{line['epoch']} {seconds} {counts} 23 {line['steps']} 0.025 0.05" in text


def test_a_run_says_how_it_failed(suite, folder):
    html = render(suite, folder)
    train = json.loads((folder / "digits" / "fast" / "seed1" / "train.json").read_text())
    collapsed = section(html, "digits/fast/seed1")
    assert f"Collapsed at epoch {train['status_epoch']}: {train['status_reason']}." in collapsed
    diverged = section(html, "digits/pgd-7/seed0")
    assert "Diverged at epoch" in diverged
    assert "not evaluated, for the run diverged" in diverged


def test_where_an_attack_ran_elsewhere_its_run_says_so(suite, folder):
    path = folder / "digits" / "fast" / "seed0" / "evaluate" / "pgd-20.json"
    provenance = json.loads(path.read_text())["provenance"]
    edit(path, provenance=provenance | {"hardware": provenance["hardware"] | {"label": "another machine"}})
    html = render(suite, folder)
    assert "pgd-20 hardware.label another machine" in section(html, "digits/fast/seed0")
    assert "clean hardware.label" not in section(html, "digits/fast/seed0")


def test_an_evaluation_that_is_not_there_is_named_in_its_run(suite, folder):
    (folder / "digits" / "fast" / "seed0" / "evaluate" / "pgd-20.json").unlink()
    assert re.search(r"pgd-20 (– ){6}missing", section(render(suite, folder), "digits/fast/seed0"))


@pytest.mark.fault("file")
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"epoch,steps\n0," + b"9" * 200_000, b'"', b"\x00" * 100])
def test_epochs_that_cannot_be_read_are_named_and_the_page_is_made_without_them(suite, folder, content):
    (folder / "digits" / "pgd-7" / "seed0" / "epochs.csv").write_bytes(content)
    assert "epochs.csv: not readable as a table" in render(suite, folder)


def test_what_a_record_says_is_shown_and_never_run(suite, folder):
    reason = "</noscript><script>alert('a & b')</script><img src=x>"
    edit(folder / "digits" / "fast" / "seed1" / "train.json", status_reason=reason)
    html = render(suite, folder)
    assert reason not in html
    page = Page(html)
    assert reason in page.text
    assert "x" not in page.addresses


def test_plots_and_examples_that_are_there_are_in_the_page_with_their_texts(suite, folder):
    (folder / "plots").mkdir()
    (folder / "plots" / "accuracy_vs_passes.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert [image["alt"] for image in Page(render(suite, folder)).images] != [""]
    (folder / "examples").mkdir()
    (folder / "examples" / "digits.png").write_bytes(PIXEL)
    (folder / "examples" / "digits.json").write_text(
        json.dumps({"caption": "Below, <what> it saw.", "alt": "six digits"})
    )
    page = Page(render(suite, folder))
    plot, examples = page.images
    assert plot["src"].startswith("data:image/svg+xml;base64,")
    assert len(plot["alt"]) > 20
    assert examples["src"].startswith("data:image/png;base64,")
    assert examples["alt"] == "six digits"
    assert "Below, <what> it saw." in page.text


@pytest.mark.parametrize("content", ["", "[]", '{"alt": "six digits"}'])
def test_examples_whose_text_cannot_be_read_is_an_error_that_names_its_file(suite, folder, content):
    (folder / "examples").mkdir()
    (folder / "examples" / "digits.png").write_bytes(PIXEL)
    (folder / "examples" / "digits.json").write_text(content)
    with pytest.raises(UserError, match=r"examples/digits\.json: no caption and alt"):
        render(suite, folder)


def test_without_plots_there_is_a_page_all_the_same(suite, folder):
    assert Page(render(suite, folder)).images == []


@pytest.mark.parametrize(
    ("cells", "keys"),
    [
        ([Cell("53.1 ± 0.8", 53.12), Cell("–", math.nan), Cell("9.25", 9.25)], ["53.12", "", "9.25"]),
        ([Cell("−2.0", -2.0, "[−2.4, −1.6]"), Cell("+0.4 ± 0.2", 0.4)], ["-2", "0.4"]),
        ([Cell("2 of 3", 2), Cell("3", 3)], ["2", "3"]),
        ([Cell("7-zip"), Cell("3", 3)], [None, None]),
        ([Cell("–"), Cell("")], [None, None]),
    ],
)
def test_a_column_sorts_by_its_numbers_if_every_cell_that_says_anything_has_one(cells, keys):
    rows = sortable(["column"], [{"column": cell} for cell in cells])["rows"]
    assert [row["cells"][0]["key"] for row in rows] == keys


def test_nothing_of_a_cell_is_lost_when_its_interval_is_set_apart():
    line = {"points": Cell("−2.0 ± 0.2 (n = 2)", -2.0, "[−2.4, −1.6]"), "words": Cell("pgd", None, "[a]")}
    number, words = sortable(list(line), [line])["rows"][0]["cells"]
    assert (number["text"], number["interval"]) == ("−2.0 ± 0.2 (n = 2)", "[−2.4, −1.6]")
    assert (words["text"], words["interval"]) == ("pgd [a]", "")


def test_the_same_records_make_the_same_page(suite, folder):
    assert render(suite, folder) == render(suite, folder)


def test_the_command_writes_the_page_and_names_it_in_its_last_line(tmp_path, suite, folder, capsys):
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(suite.resolved))
    main([str(file), "--results", str(tmp_path)])
    named = capsys.readouterr().out.splitlines()[-1].removeprefix("Report: ")
    assert named.endswith("quick/report.html")
    assert (folder / "report.html").read_text() == render(suite, folder)


def test_the_command_reads_a_suite_from_standard_input(tmp_path, suite, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(yaml.safe_dump(suite.resolved).encode())))
    main(["-", "--results", str(tmp_path)])
    assert (folder / "report.html").exists()


def test_a_folder_without_records_is_an_error_in_one_sentence(tmp_path, suite, capsys):
    with pytest.raises(UserError, match="no training record"):
        write(suite, tmp_path / "quick")
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(suite.resolved))
    with pytest.raises(SystemExit, match="error: .*no training record of suite quick"):
        main([str(file), "--results", str(tmp_path)])


def test_the_citation_is_a_valid_citation_file_of_this_version(suite, folder):
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cff["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(cff)  # what the format cannot do without
    assert cff["type"] == "software"
    assert all(set(author) == {"name"} for author in cff["authors"])
    assert str(cff["version"]) == project["version"]
    text = Page(render(suite, folder)).text
    assert f"{cff['title']}. Version {cff['version']}." in text
    assert "@software{" in text
    assert f"version = {{{project['version']}}}" in text


def test_a_suite_of_hundreds_of_runs_leaves_room_for_its_plots_in_ten_megabytes(tmp_path):
    methods = list(VARIANTS.items())
    many = {f"{label}-{n}": (*rest[:2], None, *rest[3:]) for n in range(3) for label, rest in methods[:7]}
    attacks = ("clean", "fgsm", "pgd-20", "pgd-50", "margin-20", "autoattack")
    suite = made_up_suite(many, seeds=range(5), attacks=attacks, epochs=50)
    html = render(suite, write_results(tmp_path, suite, variants=many))
    assert html.count('<details class="run"') == 105  # of one data set, where the largest suite has three
    widget = len(re.search(r'from "data:[^"]+"', html)[0])
    assert 3 * (len(html.encode()) - widget) + widget < 5e6  # docs/speed.md has what plots take
