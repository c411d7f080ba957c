import json
import re
import shutil
import statistics
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import HARDWARE, VARIANTS, changed, edit, made_up_suite, robust_images, write_results, write_verdicts

from analysis.results import collate
from reporting import formatting, tables

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus", "yopo+mplus")}
GPU = "NVIDIA H200 & 1|2_x {50%} #1 $"  # what a label could hold at worst


def built(folder, suite):
    """The tables by name; of literature, which has no lines here, see test_literature.py."""
    made = tables.build(suite, collate(suite, folder).runs)
    return {table.name: table for table in made if table.name != "literature"}


def set_accuracy(folder, run, attack, correct, images=360):
    write_verdicts(folder / "digits" / run / "evaluate", attack, robust_images(images, correct))


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, epochs=10)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, suite):
    """A suite with a collapsed run, a diverged run, a variant of which all diverged, and a missing evaluation."""
    folder = write_results(
        tmp_path_factory.mktemp("results"),
        suite,
        variants=FEW,
        collapsed=[("fast", 2)],
        diverged=[("pgd+mplus", 1), *(("yopo+mplus", seed) for seed in range(3))],
    )
    (folder / "digits/pgd-7/seed2/evaluate/autoattack.json").unlink()
    return folder, built(folder, suite)


def row(table, variant):
    return table.data.set_index("variant").loc[variant]


def shown(table, variant):
    return table.shown.set_index("variant").loc[variant]


def test_a_mean_and_its_spread_are_those_of_the_records(damaged):
    folder, made = damaged
    found = [
        100 * json.loads((folder / f"digits/pgd-7/seed{k}/evaluate/pgd-20.json").read_text())["accuracy"]
        for k in range(3)
    ]
    numbers = row(made["robustness"], "pgd-7")
    assert numbers["pgd-20_percent_mean"] == pytest.approx(statistics.fmean(found))
    assert numbers["pgd-20_percent_std"] == pytest.approx(statistics.stdev(found))
    assert numbers["pgd-20_percent_n"] == 3
    assert (
        shown(made["robustness"], "pgd-7")["pgd-20"] == f"{statistics.fmean(found):.1f} ± {statistics.stdev(found):.1f}"
    )


def test_a_diverged_run_is_counted_and_is_in_no_mean(damaged):
    folder, made = damaged
    found = [json.loads((folder / f"digits/pgd+mplus/seed{k}/evaluate/clean.json").read_text()) for k in (0, 2)]
    numbers = row(made["robustness"], "pgd+mplus")
    assert (numbers["runs"], numbers["diverged"], numbers["clean_percent_n"]) == (3, 1, 2)
    assert numbers["clean_percent_mean"] == pytest.approx(50 * sum(record["accuracy"] for record in found))
    assert "pgd+mplus seed 1 (epoch 3)" in " ".join(made["robustness"].notes)


def test_where_every_run_diverged_there_is_no_accuracy_rather_than_zero(damaged):
    table = damaged[1]["robustness"]
    assert set(shown(table, "yopo+mplus")[["clean", "pgd-20", "autoattack"]]) == {"–"}
    assert np.isnan(row(table, "yopo+mplus")["clean_percent_mean"])
    assert row(damaged[1]["cost"], "yopo+mplus")["n"] == 0


def test_a_collapsed_run_is_in_the_mean_and_left_out_in_a_line_of_its_own(damaged):
    folder, made = damaged
    found = [
        100 * json.loads((folder / f"digits/fast/seed{k}/evaluate/pgd-20.json").read_text())["accuracy"]
        for k in range(3)
    ]
    numbers = row(made["robustness"], "fast")
    assert numbers["collapsed"] == 1
    assert numbers["pgd-20_percent_mean"] == pytest.approx(statistics.fmean(found))
    assert numbers["pgd-20_percent_mean_not_collapsed"] == pytest.approx(statistics.fmean(found[:2]))
    line = shown(made["robustness"], "fast, not collapsed")
    assert line["runs"] == "2"
    assert line["pgd-20"].startswith(f"{statistics.fmean(found[:2]):.1f} ± ")


def test_a_missing_evaluation_lowers_n_and_the_cell_says_so(damaged):
    table = damaged[1]["robustness"]
    assert row(table, "pgd-7")["autoattack_percent_n"] == 2
    assert shown(table, "pgd-7")["autoattack"].endswith("(n = 2)")


def test_one_seed_has_no_spread_rather_than_zero(tmp_path):
    suite = made_up_suite(FEW, seeds=(0,), epochs=4)
    made = built(write_results(tmp_path, suite, variants=FEW), suite)
    for name in ("robustness", "cost"):
        cells = made[name].shown.iloc[0].filter(regex="clean|seconds|passes")
        assert len(cells)
        assert all(cell.endswith("± –") for cell in cells)


def test_seconds_of_different_hardware_never_share_a_line(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, hardware={2: GPU})
    table = built(folder, suite)["cost"]
    lines = table.data[table.data["variant"] == "pgd-7"].set_index("hardware")
    assert dict(lines["n"]) == {HARDWARE: 2, GPU: 1}
    seconds = [
        json.loads((folder / f"digits/pgd-7/seed{k}/train.json").read_text())["cost"]["seconds"] for k in range(3)
    ]
    assert lines.loc[HARDWARE, "seconds_mean"] == pytest.approx(statistics.fmean(seconds[:2]))
    assert lines.loc[GPU, "seconds_mean"] == pytest.approx(seconds[2])
    assert "different hardware" in table.caption
    assert GPU in set(table.shown["hardware"])


ONE_THREAD = HARDWARE.replace("2 threads", "1 thread")


@pytest.mark.fault("version")
@pytest.mark.parametrize("other", [ONE_THREAD, GPU])
def test_means_over_runs_of_different_threads_or_hardware_say_so(tmp_path, suite, other):
    tables = built(write_results(tmp_path, suite, variants=FEW, hardware={2: other}), suite)
    sentence = (
        f"Weights depend on hardware and threads, and runs of {', '.join(FEW)} were trained on different ones: "
        f"{HARDWARE} ({2 * len(FEW)} records); {other} ({len(FEW)} records)."
    )
    for name in ("robustness", "effect"):
        assert sentence in tables[name].notes


@pytest.mark.fault("version")
def test_variants_of_different_threads_are_told_apart_from_mixed_means(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW)
    for path in folder.glob("digits/pgd-7/*/train.json"):
        provenance = json.loads(path.read_text())["provenance"]
        edit(path, provenance=provenance | {"hardware": provenance["hardware"] | {"label": ONE_THREAD, "threads": 1}})
    notes = " ".join(built(folder, suite)["robustness"].notes)
    assert "Weights depend on hardware and threads, and variants were trained on different ones: " in notes


@pytest.mark.fault("version")
def test_a_suite_that_leaves_the_number_of_threads_open_says_that_weights_depend_on_it(tmp_path, suite):
    folder, said = write_results(tmp_path, suite, variants=FEW), "leaves the number of CPU threads open"
    assert said in built(folder, suite)["robustness"].caption
    assert said not in built(folder, changed(suite, threads=2))["robustness"].caption
    folder = write_results(tmp_path / "gpu", suite, variants=FEW, hardware=dict.fromkeys(range(3), GPU))
    assert said not in built(folder, suite)["robustness"].caption  # where they move data, and compute nothing


def test_hardware_is_a_column_only_where_there_is_more_than_one(damaged):
    assert "hardware" not in damaged[1]["cost"].shown
    assert HARDWARE in damaged[1]["cost"].caption


def test_tables_of_several_data_sets_name_the_data_set_in_every_line(tmp_path):
    suite = made_up_suite(FEW, datasets=("digits", "cifar10"), seeds=(0, 1), epochs=4)
    made = built(write_results(tmp_path, suite, variants=FEW), suite)
    for table in made.values():
        assert list(dict.fromkeys(table.shown["dataset"])) == ["digits", "cifar10"]
        assert len(table.data) % 2 == 0


def test_captions_state_the_protocol(damaged):
    for table in damaged[1].values():
        for part in ("digits", "small_cnn (relu)", "eps = 0.1", "10 epochs", "seeds (0, 1, 2)", HARDWARE, "validation"):
            assert part in table.caption
        assert ("sample standard deviation over seeds" in table.caption) == (table.name != "effect")
        assert "M+ under fast, yopo has no published definition" in table.caption
    for name in ("robustness", "effect"):
        assert "clean 360, pgd-20 360, margin-20 360, autoattack 128" in damaged[1][name].caption
        assert "CW-20" in damaged[1][name].caption


def test_captions_say_only_what_the_suite_has(tmp_path):
    few = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus")}
    suite = made_up_suite(few, attacks=("clean",), epochs=4)
    variants = [
        variant | {"training": {"epochs": 3} if variant["base"] else {}} for variant in suite.resolved["variants"]
    ]
    suite = changed(suite, threat={"norm": "linf", "eps": 8 / 255}, variants=variants)
    caption = built(write_results(tmp_path, suite, variants=few), suite)["robustness"].caption
    assert "papers" not in caption
    assert "no published definition" not in caption
    assert "eps = 8/255" in caption
    assert "pgd+mplus has epochs 3" in caption


def test_what_an_attack_flagged_is_told_with_the_run(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW)
    edit(folder / "digits/fast/seed1/evaluate/autoattack.json", flags=["zero gradient"])
    notes = " ".join(built(folder, suite)["robustness"].notes)
    assert "autoattack, zero gradient: fast seed 1" in notes


def test_seeds_are_told_one_by_one_in_the_suite_s_order_with_gaps_where_there_is_no_number(damaged):
    folder, made = damaged
    found = [json.loads((folder / f"digits/pgd+mplus/seed{k}/evaluate/clean.json").read_text()) for k in (0, 2)]
    first, last = (f"{100 * record['accuracy']:.1f}" for record in found)
    assert row(made["robustness"], "pgd+mplus")["clean_percent_seeds"] == f"{first}; –; {last}"
    page = made["robustness"].files()["robustness.md"]
    assert f"{first}; –; {last}" in page.partition("<summary>Seed by seed</summary>")[2]
    assert "; –" in row(made["robustness"], "pgd-7")["autoattack_percent_seeds"]


def test_a_suspect_run_is_counted_and_named_with_the_reason_and_else_there_is_no_such_column(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW)
    healthy = built(folder, suite)["robustness"]
    assert "suspect" not in healthy.shown
    assert set(healthy.data["suspect"]) == {0}
    set_accuracy(folder, "fast/seed1", "autoattack", 128, 128)
    table = built(folder, suite)["robustness"]
    assert shown(table, "fast")["suspect"] == "1"
    assert shown(table, "pgd-7")["suspect"] == "0"
    (note,) = (note for note in table.notes if note.startswith("Suspect"))
    assert "fast seed 1" in note
    assert "autoattack leaves 128 of the same 128 images robust" in note
    assert "suspect" in " ".join(built(folder, suite)["effect"].notes)


def test_records_of_different_sources_or_packages_are_named_under_every_table(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW)
    assert not any("different" in note for table in built(folder, suite).values() for note in table.notes)
    path = folder / "digits/fast/seed1/train.json"
    provenance = json.loads(path.read_text())["provenance"]
    sources = {"engine": "a" * 64, "method": "b" * 64}
    edit(path, provenance=provenance | {"sources": sources, "packages": {"numpy": "2.4.6", "torch": "2.16.0"}})
    for table in built(folder, suite).values():
        engine, method, packages = (note for note in table.notes if "different" in note)
        assert "aaaaaaaaaaaa (1 record)" in engine
        assert "method fast: 222222222222 (5 records); bbbbbbbbbbbb (1 record)" in method
        assert "torch 2.16.0 (1 record)" in packages
        assert "numpy" not in packages


TOKEN = re.compile(
    r"""(?P<plain>[A-Za-z0-9 !'()+,\-./:;=?@\]]) | \\(?P<escaped>[&%$#_{}]) | \{(?P<braced>[\[*])\}
    | \\(?P<accent>`)\{\} | \\text(?P<named>[a-z]+)\{\} | \$(?P<sign>-|\\[a-z]+)\$ | (?<=-)(?P<apart>\{\})""",
    re.VERBOSE,
)
NAMED = {"backslash": "\\", "asciitilde": "~", "asciicircum": "^", "less": "<", "greater": ">", "bar": "|"}
NAMED |= {"quotedblright": '"'}


def printed(latex):
    """The text that LaTeX source prints; fails where a character of it could do anything but print."""
    letters, place = [], 0
    while place < len(latex):
        found = TOKEN.match(latex, place)
        assert found, latex[place:]
        kind, place = found.lastgroup, found.end()
        letters.append({"named": NAMED.get(found[kind], "?"), "sign": "?", "apart": ""}.get(kind, found[kind]))
    return "".join(letters)


@given(st.text(max_size=30) | st.text(alphabet="ab-`'\"[]*_&%$#{}~^\\<>|±–−→é中", max_size=30))
def test_any_text_becomes_latex_that_only_prints(text):
    printed(formatting.escape_latex(text))


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30) | st.text('a-"[*', max_size=9))
def test_ascii_text_is_printed_by_latex_as_it_stands(text):
    latex = formatting.escape_latex(text)
    assert printed(latex) == " ".join(text.split())
    assert "--" not in latex  # LaTeX prints that as a dash


def test_letters_that_latex_may_lack_lose_their_accent_or_are_told_by_number():
    assert formatting.escape_latex("Café ± 3 → 中") == r"Cafe $\pm$ 3 $\rightarrow$ U+4E2D"


def test_latex_tables_are_whole_environments_with_as_many_cells_as_columns(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, collapsed=[("fast", 2)], hardware={2: GPU})
    for name, table in built(folder, suite).items():
        latex = table.files()[f"{name}.tex"]
        for environment in ("table", "tabular"):
            assert latex.count(rf"\begin{{{environment}}}") == latex.count(rf"\end{{{environment}}}") == 1
        columns = re.search(r"\\begin\{tabular\}\{(.+)\}", latex).group(1)
        body = latex.partition(r"\toprule")[2].partition(r"\bottomrule")[0].replace(r"\midrule", "")
        lines = [line.removesuffix(r" \\") for line in body.strip().splitlines() if line]
        assert len(lines) == len(table.lines) + 1
        for line in lines:
            cells = re.split(r" (?<!\\)& ", line)
            assert len(cells) == len(re.findall(r"[lr]|p\{\w+\}", columns))
            for cell in cells:
                printed(re.sub(r"^\\textbf\{(.*)\}$", r"\1", cell))
        assert r"\caption{" in latex
        assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")


def test_counts_that_are_the_same_in_every_line_are_told_once_in_latex(tmp_path, suite, damaged):
    healthy = built(write_results(tmp_path, suite, variants=FEW), suite)["robustness"].files()["robustness.tex"]
    assert "In every line: runs 3, collapsed 0, diverged 0." in healthy
    assert "variant & clean" in healthy
    hurt = damaged[1]["robustness"].files()["robustness.tex"]
    assert "variant & runs & collapsed & diverged & clean" in hurt


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_latex_compiles_and_ten_variants_under_six_attacks_fit_the_page(tmp_path):
    attacks = ("clean", "fgsm", "pgd-20", "pgd-50", "margin-20", "autoattack")
    suite = made_up_suite(attacks=attacks, epochs=4)
    made = built(write_results(tmp_path, suite, hardware={2: GPU}, collapsed=[("fast", 2)]), suite)
    for name, table in made.items():
        (tmp_path / f"{name}.tex").write_text(table.files()[f"{name}.tex"])
    letters = "".join(map(chr, range(32, 127))) + "".join(formatting.LATEX) + "é中 --"
    document = [r"\documentclass{article}", r"\usepackage{booktabs,graphicx}", r"\begin{document}", r"\raggedright"]
    document += [
        formatting.escape_latex(" ".join(letters)),
        *(rf"\input{{{name}}}" for name in made),
        r"\end{document}",
    ]
    (tmp_path / "paper.tex").write_text("\n".join(document))
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert [width for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout) if float(width) > 5] == []


def test_markdown_tables_have_as_many_cells_in_every_line(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW, hardware={2: GPU})
    for name, table in built(folder, suite).items():
        page, _, detail = table.files()[f"{name}.md"].partition("<details>")
        assert ("Seed by seed" in detail) == (name in ("robustness", "effect"))
        lines = [line for line in page.splitlines() if line.startswith("|")]
        assert len(lines) == len(table.shown) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.shown.columns) + 1}
    assert built(folder, suite)["cost"].files()["cost.md"].count("1\\|2") >= len(FEW)


def test_what_rounds_to_no_difference_has_no_minus():
    assert formatting.signed(-0.04, 1) == "+0.0"
    assert formatting.signed(-0.4, 1) == "−0.4"


def test_captions_state_the_arithmetic_that_was_used_and_the_augmentation(tmp_path, suite):
    folder = write_results(tmp_path, suite, variants=FEW)
    path = folder / "digits/fast/seed1/train.json"
    edit(path, provenance=json.loads(path.read_text())["provenance"] | {"precision": "bf16"})
    caption = built(folder, suite)["robustness"].caption
    assert f"Trained on {HARDWARE}, in bf16 and {HARDWARE}, in fp32." in caption
    assert "autoattack 128, in fp32." in caption
    assert "digits (not augmented)" in caption
