import json
import re
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import HARDWARE, VARIANTS, edit, resolved_suite, robust_images, write_results, write_verdicts

from evaluation import tables, typeset
from evaluation.collate import collate
from evaluation.statistics import Summary, mcnemar

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "fast", "fast+mplus", "yopo+mplus")}
GPU = "NVIDIA H200 & 1|2_x {50%} #1 $"  # what a label could hold at worst


def built(folder, resolved):
    return {table.name: table for table in tables.build(resolved, collate(resolved, folder).runs)}


def set_accuracy(folder, run, attack, correct, images=360):
    write_verdicts(folder / "digits" / run / "evaluate", attack, robust_images(images, correct))


@pytest.fixture(scope="module")
def resolved():
    return resolved_suite(FEW, epochs=10)


@pytest.fixture(scope="module")
def suite(tmp_path_factory, resolved):
    """A suite with a collapsed run, a diverged run, a variant of which all diverged, and a missing evaluation."""
    folder = write_results(
        tmp_path_factory.mktemp("results"),
        resolved,
        variants=FEW,
        collapsed=[("fast", 2)],
        diverged=[("pgd+mplus", 1), *(("yopo+mplus", seed) for seed in range(3))],
    )
    (folder / "digits/pgd-7/seed2/evaluate/autoattack.json").unlink()
    return folder, built(folder, resolved)


def row(table, variant):
    return table.data.set_index("variant").loc[variant]


def shown(table, variant):
    return table.shown.set_index("variant").loc[variant]


def test_a_mean_and_its_spread_are_those_of_the_records(suite):
    folder, made = suite
    found = [
        100 * json.loads((folder / f"digits/pgd-7/seed{k}/evaluate/pgd-20.json").read_text())["accuracy"]
        for k in range(3)
    ]
    numbers = row(made["robustness"], "pgd-7")
    assert numbers["pgd-20_percent_mean"] == pytest.approx(statistics.fmean(found))
    assert numbers["pgd-20_percent_std"] == pytest.approx(statistics.stdev(found))
    assert numbers["pgd-20_n"] == 3
    assert (
        shown(made["robustness"], "pgd-7")["pgd-20"] == f"{statistics.fmean(found):.1f} ± {statistics.stdev(found):.1f}"
    )


def test_a_diverged_run_is_counted_and_is_in_no_mean(suite):
    folder, made = suite
    found = [json.loads((folder / f"digits/pgd+mplus/seed{k}/evaluate/clean.json").read_text()) for k in (0, 2)]
    numbers = row(made["robustness"], "pgd+mplus")
    assert (numbers["runs"], numbers["diverged"], numbers["clean_n"]) == (3, 1, 2)
    assert numbers["clean_percent_mean"] == pytest.approx(50 * sum(record["accuracy"] for record in found))
    assert "pgd+mplus seed 1 (epoch 3)" in " ".join(made["robustness"].notes)


def test_where_every_run_diverged_there_is_no_accuracy_rather_than_zero(suite):
    table = suite[1]["robustness"]
    assert set(shown(table, "yopo+mplus")[["clean", "pgd-20", "autoattack"]]) == {"–"}
    assert np.isnan(row(table, "yopo+mplus")["clean_percent_mean"])
    assert row(suite[1]["cost"], "yopo+mplus")["n"] == 0


def test_a_collapsed_run_is_in_the_mean_and_left_out_in_a_line_of_its_own(suite):
    folder, made = suite
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


def test_a_missing_evaluation_lowers_n_and_the_cell_says_so(suite):
    table = suite[1]["robustness"]
    assert row(table, "pgd-7")["autoattack_n"] == 2
    assert shown(table, "pgd-7")["autoattack"].endswith("(n = 2)")


def test_one_seed_has_no_spread_rather_than_zero(tmp_path):
    resolved = resolved_suite(FEW, seeds=(0,), epochs=4)
    for table in built(write_results(tmp_path, resolved, variants=FEW), resolved).values():
        cells = table.shown.iloc[0].filter(regex="clean|seconds|passes")
        assert len(cells)
        assert all(cell.endswith("± –") for cell in cells)


def test_seconds_of_different_hardware_never_share_a_line(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW, hardware={2: GPU})
    table = built(folder, resolved)["cost"]
    lines = table.data[table.data["variant"] == "pgd-7"].set_index("hardware")
    assert dict(lines["n"]) == {HARDWARE: 2, GPU: 1}
    seconds = [
        json.loads((folder / f"digits/pgd-7/seed{k}/train.json").read_text())["cost"]["seconds"] for k in range(3)
    ]
    assert lines.loc[HARDWARE, "seconds_mean"] == pytest.approx(statistics.fmean(seconds[:2]))
    assert lines.loc[GPU, "seconds_mean"] == pytest.approx(seconds[2])
    assert "different hardware" in table.caption
    assert GPU in set(table.shown["hardware"])


def test_hardware_is_a_column_only_where_there_is_more_than_one(suite):
    assert "hardware" not in suite[1]["cost"].shown
    assert HARDWARE in suite[1]["cost"].caption


def test_the_effect_is_paired_so_what_a_seed_does_to_both_cancels(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW)
    for seed, common in enumerate((0, 60, 150)):
        set_accuracy(folder, f"pgd-7/seed{seed}", "pgd-20", 100 + common)
        set_accuracy(folder, f"pgd+mplus/seed{seed}", "pgd-20", 100 + common + (18, 36, 54)[seed])
    numbers = row(built(folder, resolved)["mplus_effect"], "pgd+mplus")
    assert numbers["pgd-20_points_mean"] == pytest.approx(10)
    assert numbers["pgd-20_points_std"] == pytest.approx(5)
    half = 4.303 * 5 / 3**0.5
    interval = (numbers["pgd-20_points_low"], numbers["pgd-20_points_high"])
    assert interval == pytest.approx((10 - half, 10 + half), abs=1e-2)


def test_speed_ups_are_base_over_mplus_and_seconds_need_the_same_hardware(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW)
    for label, seconds, passes in (("fast", 30.0, 60.0), ("fast+mplus", 20.0, 15.0)):
        for seed in range(3):
            path = folder / f"digits/{label}/seed{seed}/train.json"
            train = json.loads(path.read_text())
            edit(path, cost=train["cost"] | {"seconds": seconds, "data_passes": passes})
    path = folder / "digits/fast/seed1/train.json"
    provenance = json.loads(path.read_text())["provenance"]
    edit(path, provenance=provenance | {"hardware": provenance["hardware"] | {"label": GPU}})
    table = built(folder, resolved)["mplus_effect"]
    numbers = row(table, "fast+mplus")
    assert (numbers["passes_speedup_mean"], numbers["passes_speedup_n"]) == (4, 3)
    assert (numbers["seconds_speedup_mean"], numbers["seconds_speedup_n"]) == (1.5, 2)
    assert shown(table, "fast+mplus")["faster"] == "1.50 ± 0.00 (n = 2)"


def test_pairs_with_a_diverged_or_missing_run_are_counted_and_not_used(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW, diverged=[("pgd-7", 0)])
    (folder / "digits/pgd+mplus/seed1/train.json").unlink()
    table = built(folder, resolved)["mplus_effect"]
    numbers = row(table, "pgd+mplus")
    assert (numbers["n"], numbers["diverged"], numbers["missing"]) == (1, 1, 1)
    assert (numbers["clean_points_n"], numbers["passes_speedup_n"], numbers["seconds_speedup_n"]) == (1, 1, 1)
    assert shown(table, "pgd+mplus")["pairs"] == "1 of 3"


def test_only_pairs_without_a_collapse_are_in_the_line_that_says_so(suite):
    table = suite[1]["mplus_effect"]
    assert row(table, "fast+mplus")["collapsed"] == 1
    assert row(table, "fast+mplus")["pgd-20_points_mean"] > 8
    assert abs(row(table, "fast+mplus")["pgd-20_points_mean_not_collapsed"]) < 5
    assert shown(table, "fast+mplus, not collapsed")["pairs"] == "2"


def test_a_suite_without_bases_has_an_empty_effect_table_that_says_why(tmp_path):
    few = {"pgd-7": VARIANTS["pgd-7"]}
    resolved = resolved_suite(few, epochs=4)
    table = built(write_results(tmp_path, resolved, variants=few), resolved)["mplus_effect"]
    assert len(table.data) == 0
    assert "No variant" in table.files()["mplus_effect.md"]


def test_tables_of_several_data_sets_name_the_data_set_in_every_line(tmp_path):
    resolved = resolved_suite(FEW, datasets=("digits", "cifar10"), seeds=(0, 1), epochs=4)
    made = built(write_results(tmp_path, resolved, variants=FEW), resolved)
    for table in made.values():
        assert list(dict.fromkeys(table.shown["dataset"])) == ["digits", "cifar10"]
        assert len(table.data) % 2 == 0


def test_captions_state_the_protocol(suite):
    for table in suite[1].values():
        for part in ("digits", "small_cnn (relu)", "eps = 0.1", "10 epochs", "seeds (0, 1, 2)", HARDWARE, "validation"):
            assert part in table.caption
        assert "sample standard deviation over seeds" in table.caption
        assert "M+ under fast, yopo has no published definition" in table.caption
    for name in ("robustness", "mplus_effect"):
        assert "clean 360, pgd-20 360, margin-20 360, autoattack 128" in suite[1][name].caption
        assert "CW-20" in suite[1][name].caption


def test_captions_say_only_what_the_suite_has(tmp_path):
    few = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus")}
    resolved = resolved_suite(few, attacks=("clean",), epochs=4)
    resolved["threat"]["eps"] = 8 / 255
    resolved["variants"][1]["training"] = {"epochs": 3}
    caption = built(write_results(tmp_path, resolved, variants=few), resolved)["robustness"].caption
    assert "papers" not in caption
    assert "no published definition" not in caption
    assert "eps = 8/255" in caption
    assert "pgd+mplus has epochs 3" in caption


def test_what_an_attack_flagged_is_told_with_the_run(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW)
    edit(folder / "digits/fast/seed1/evaluate/autoattack.json", flags=["zero gradient"])
    notes = " ".join(built(folder, resolved)["robustness"].notes)
    assert "autoattack, zero gradient: fast seed 1" in notes


def test_seeds_are_told_one_by_one_in_the_suite_s_order_with_gaps_where_there_is_no_number(suite):
    folder, made = suite
    found = [json.loads((folder / f"digits/pgd+mplus/seed{k}/evaluate/clean.json").read_text()) for k in (0, 2)]
    first, last = (f"{100 * record['accuracy']:.1f}" for record in found)
    assert row(made["robustness"], "pgd+mplus")["clean_percent_seeds"] == f"{first}; –; {last}"
    page = made["robustness"].files()["robustness.md"]
    assert f"{first}; –; {last}" in page.partition("<summary>Seed by seed</summary>")[2]
    assert "; –" in row(made["robustness"], "pgd-7")["autoattack_percent_seeds"]


def test_base_and_mplus_are_compared_image_by_image_for_each_seed_alone(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW, diverged=[("pgd-7", 2)])
    rng, expected = np.random.default_rng(0), []
    for seed in (0, 1):
        base, mplus = rng.random((2, 360)) < [[0.5], [0.4]]
        write_verdicts(folder / f"digits/pgd-7/seed{seed}/evaluate", "pgd-20", base)
        write_verdicts(folder / f"digits/pgd+mplus/seed{seed}/evaluate", "pgd-20", mplus)
        expected.append(mcnemar(base, mplus))
    table = built(folder, resolved)["mplus_effect"]
    numbers = row(table, "pgd+mplus")
    assert numbers["pgd-20_only_base"] == f"{expected[0].only_first}; {expected[1].only_first}; –"
    assert numbers["pgd-20_only_mplus"] == f"{expected[0].only_second}; {expected[1].only_second}; –"
    assert numbers["pgd-20_mcnemar_p"] == f"{expected[0].p_value:.3g}; {expected[1].p_value:.3g}; –"
    assert "not pooled" in table.caption


def test_a_suspect_run_is_counted_and_named_with_the_reason_and_else_there_is_no_such_column(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW)
    healthy = built(folder, resolved)["robustness"]
    assert "suspect" not in healthy.shown
    assert set(healthy.data["suspect"]) == {0}
    set_accuracy(folder, "fast/seed1", "autoattack", 128, 128)
    table = built(folder, resolved)["robustness"]
    assert shown(table, "fast")["suspect"] == "1"
    assert shown(table, "pgd-7")["suspect"] == "0"
    (note,) = (note for note in table.notes if note.startswith("Suspect"))
    assert "fast seed 1" in note
    assert "autoattack leaves 128 of the same 128 images robust" in note
    assert "suspect" in " ".join(built(folder, resolved)["mplus_effect"].notes)


def test_records_of_different_sources_or_packages_are_named_under_every_table(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW)
    assert not any("different" in note for table in built(folder, resolved).values() for note in table.notes)
    path = folder / "digits/fast/seed1/train.json"
    provenance = json.loads(path.read_text())["provenance"]
    sources = {"engine": "a" * 64, "method": "b" * 64}
    edit(path, provenance=provenance | {"sources": sources, "packages": {"numpy": "2.4.6", "torch": "2.16.0"}})
    for table in built(folder, resolved).values():
        engine, method, packages = (note for note in table.notes if "different" in note)
        assert "aaaaaaaaaaaa (1 record)" in engine
        assert "method fast: 222222222222 (5 records); bbbbbbbbbbbb (1 record)" in method
        assert "torch 2.16.0 (1 record)" in packages
        assert "numpy" not in packages


def bare(latex):
    """LaTeX text without escapes, signs in mathematics and named characters: the rest must print as it stands."""
    latex = re.sub(r"\\[&%$#_{}\\]", "", latex)
    latex = re.sub(r"\$(-|\\pm)\$", "", latex)
    return re.sub(r"\\text[a-z]+\{\}", "", latex)


@given(st.text(alphabet="ab1+-_&%$#{}~^\\<>|±–−", max_size=30))
def test_no_character_that_latex_acts_on_survives_escaping(text):
    assert not set(bare(typeset.escape_latex(text))) & set("&%$#_{}~^\\<>|")


def test_latex_tables_are_whole_environments_with_as_many_cells_as_columns(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW, collapsed=[("fast", 2)], hardware={2: GPU})
    for name, table in built(folder, resolved).items():
        latex = table.files()[f"{name}.tex"]
        for environment in ("table", "tabular"):
            assert latex.count(rf"\begin{{{environment}}}") == latex.count(rf"\end{{{environment}}}") == 1
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", latex).group(1)
        body = latex.partition(r"\toprule")[2].partition(r"\bottomrule")[0].replace(r"\midrule", "")
        lines = [line.removesuffix(r"\\") for line in body.strip().splitlines() if line]
        assert len(lines) == len(table.latex) + 1
        for line in lines:
            cells = re.split(r"(?<!\\)&", line)
            assert len(cells) == len(columns)
            assert not set(bare("".join(cells))) & set("&%$#_{}~^\\<>|")
        assert r"\caption{" in latex
        assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
        assert "[" not in body  # intervals would not fit a page


def test_markdown_tables_have_as_many_cells_in_every_line(tmp_path, resolved):
    folder = write_results(tmp_path, resolved, variants=FEW, hardware={2: GPU})
    for name, table in built(folder, resolved).items():
        page, _, detail = table.files()[f"{name}.md"].partition("<details>")
        assert ("Seed by seed" in detail) == (name == "robustness")
        lines = [line for line in page.splitlines() if line.startswith("|")]
        assert len(lines) == len(table.shown) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.shown.columns) + 1}
    assert built(folder, resolved)["cost"].files()["cost.md"].count("1\\|2") >= len(FEW)


def test_what_rounds_to_no_difference_has_no_minus():
    assert typeset.plus_minus(Summary(-0.04, 0.31, 3), 1, 3, sign=True) == "+0.0 ± 0.3"
    assert typeset.plus_minus(Summary(-0.4, 0.31, 3), 1, 3, sign=True) == "−0.4 ± 0.3"
