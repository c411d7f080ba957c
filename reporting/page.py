"""A suite's results as one page that opens offline: `python -m reporting.page SUITE [--results DIR]`.

The page, report.html beside the records, shows the tables, the plots that `reporting.collate` drew, and a section for
every run. It asks for nothing outside itself.
"""

import argparse
import base64
import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import itables.options
import jinja2
import pandas as pd
import yaml

from analysis.results import RUN, Results, collate
from experiment.errors import UserError, reported
from experiment.files import write_atomically
from experiment.suite import ROOT, Suite
from reporting import plots, run_pages, tables
from reporting.captions import NOTHING, describe_attacks, describe_protocol, describe_sources
from reporting.formatting import Cell, Table, count_of, words
from reporting.plots.style import PlotText
from reporting.summary import summary

# A reader's questions in their order: a section's name, its title, its tables, and how the names of its plots begin.
SECTIONS = [
    ("effect", "What M+ changes", ["effect"], ("effect",)),
    ("tradeoff", "Robustness against cost", [], ("accuracy_vs_", "pareto")),
    ("robustness", "Robustness", ["robustness"], ("robustness",)),
    ("cost", "Cost of training", ["cost"], ("cost",)),
    ("training", "What happened during training", [], ("training", "steps_", "magnitude_", "validation_")),
    ("literature", "Against the literature", ["literature"], ("literature",)),
]
RUN_COSTS = ("seconds", "compute", "passes")


def write(suite: Suite, folder: Path) -> Path:
    """Write report.html into `folder` (results/<suite>), from the records, plots and examples in it; returns its path.

    Raises UserError when no run of the suite has a usable training record, or the text of examples cannot be read.
    """
    path = folder / "report.html"
    write_atomically(path, render(suite, folder).encode())
    return path


def render(suite: Suite, folder: Path) -> str:
    """The page as HTML; see `write`."""
    results = collate(suite, folder)
    runs, pages = results.runs, run_pages.pages(results)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        suite=suite.name,
        missing=results.missing,
        problems=[problem.replace(f"{folder}{os.sep}", "") for problem in results.problems],
        status=_status(suite, results),
        summary=summary(suite, runs),
        sections=_sections(suite, results, folder),
        examples=list(_examples(suite, folder)),
        runs_table=_runs_table(suite, runs),
        pages=pages,
        protocol=describe_protocol(suite, runs),
        remarks=[describe_attacks(suite, runs), *describe_sources(runs)],
        hardware=_hardware(runs),
        citation=_citation(),
        commits=Counter(page.commit for page in pages),
        command=_command(suite),
        table_widget=_table_widget(),
    )


def sortable(
    columns: Sequence[str],
    lines: Sequence[Mapping[str, Cell]],
    links: Mapping[tuple[int, str], str] | None = None,
    names: Mapping[int, str] | None = None,
    best: Sequence[Collection[str]] = (),
) -> dict[str, Any]:
    """What the template needs of a table.

    A column is numeric, and sorts by its cells' numbers, if every cell that says anything has one.
    links: an address within the page, by row and column; names: by row, the name that links lead to; best: by row, the
    columns whose cell is in bold.
    """
    numeric = {column for column in columns if _is_numeric([line[column] for line in lines])}
    rows = []
    for index, line in enumerate(lines):
        cells = [
            {
                "text": line[column].text if column in numeric else str(line[column]),
                "interval": line[column].interval if column in numeric else "",
                "key": _key(line[column]) if column in numeric else None,
                "link": (links or {}).get((index, column)),
                "best": bool(best) and column in best[index],
            }
            for column in columns
        ]
        rows.append({"name": (names or {}).get(index), "cells": cells})
    return {"columns": [(column, column in numeric) for column in columns], "rows": rows}


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reporting.page", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or - for standard input")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    options = parser.parse_args(arguments)
    with reported("report"):
        suite = Suite.load(options.suite)
        print(f"Report: {os.path.relpath(write(suite, options.results / suite.name))}")


def _is_numeric(cells: Sequence[Cell]) -> bool:
    said = [cell for cell in cells if cell.text not in ("", NOTHING)]
    return bool(said) and all(cell.number is not None for cell in said)


def _key(cell: Cell) -> str:
    """What the cell sorts by, "" where there is no number."""
    return "" if cell.number is None or math.isnan(cell.number) else f"{cell.number:.10g}"


def _status(suite: Suite, results: Results) -> list[tuple[str, str, bool]]:
    """What to know before any number: a count, its words, and whether a reader should look into it."""
    runs, trained = results.runs, results.runs.drop_duplicates(RUN)
    planned = len(suite.datasets) * len(suite.variants) * len(suite.seeds)
    evaluated, attacks = int((runs["evaluation_status"] != "missing").sum()), planned * len(suite.attacks)
    doubts = {
        "collapsed": int((trained["status"] == "collapsed").sum()),
        "diverged": int((trained["status"] == "diverged").sum()),
        "suspect": int((trained["suspect"] != "").sum()),
        f"unusable file{'s' * (len(results.problems) != 1)}": len(results.problems),
    }
    return [
        (f"{len(trained)} of {planned}", "runs trained", len(trained) < planned),
        (f"{evaluated} of {attacks}", "evaluations done", evaluated < attacks),
        *((str(count), words, count > 0) for words, count in doubts.items()),
    ]


def _sections(suite: Suite, results: Results, folder: Path) -> list[dict[str, Any]]:
    """Tables and plots under the question that they answer; those that no section asks for have one of their own."""
    built = {table.name: table for table in tables.build(suite, results.runs)}
    texts = plots.texts(suite, results.runs, results.epochs)
    paths = {stem: folder / "plots" / f"{stem}.svg" for stem in texts}
    drawn = {stem: text for stem, text in texts.items() if paths[stem].exists()}
    sections = []
    for name, title, asked, beginnings in [*SECTIONS, ("more", "More", list(built), ("",))]:
        ours = [built.pop(table) for table in asked if table in built]
        stems = [stem for stem in drawn if stem.startswith(beginnings)]
        pictures = [_picture(paths[stem], "svg+xml", drawn.pop(stem)) for stem in stems]
        if ours or pictures:
            shown = [(table, _from_suite(table)) for table in ours]
            sections.append({"name": name, "title": title, "tables": shown, "pictures": pictures})
    return sections


def _picture(path: Path, kind: str, text: PlotText) -> dict[str, Any]:
    """An image inside the page: an image of its own, for two SVGs in one document would share their names' space."""
    content = base64.b64encode(path.read_bytes()).decode()
    return {"source": f"data:image/{kind};base64,{content}", "text": text}


def _examples(suite: Suite, folder: Path) -> Iterator[dict[str, Any]]:
    """The examples of adversarial images of each data set that has one."""
    for dataset in suite.datasets:
        image, text = (folder / "examples" / f"{dataset}.{extension}" for extension in ("png", "json"))
        if image.exists() and text.exists():
            try:
                said = json.loads(text.read_text())
                words = PlotText(dataset, said["caption"], said["alt"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{text}: no caption and alt to be read from it ({error}); delete it and run snakemake"
                ) from None
            yield _picture(image, "png", words)


def _runs_table(suite: Suite, runs: pd.DataFrame) -> dict[str, Any]:
    """A line for every run that the suite asks for, trained or not."""
    lines, links, names = [], {}, {}
    known = dict(list(runs.groupby(RUN, sort=False)))
    several = len(suite.datasets) > 1
    for dataset in suite.datasets:
        for label in (variant.label for variant in suite.variants):
            names[len(lines)] = _runs_of(dataset, label)
            for seed in suite.seeds:
                line = words({"dataset": dataset} if several else {}) | words({"variant": label})
                line |= {"seed": count_of(seed)}
                if (dataset, label, seed) in known:
                    links[len(lines), "variant"] = f"#{run_pages.name(dataset, label, seed)}"
                lines.append(line | _outcome(suite, known.get((dataset, label, seed))))
    return sortable(list(lines[0]), lines, links, names)


def _outcome(suite: Suite, rows: pd.DataFrame | None) -> dict[str, Cell]:
    """How a run ended: its status, accuracies in %, and cost."""
    attacks = suite.attacks
    if rows is None:
        return words({"status": "not trained"} | dict.fromkeys([*attacks, *RUN_COSTS], NOTHING))
    run = rows.iloc[0]
    accuracies = 100 * rows.set_index("attack")["accuracy"]
    return {
        "status": Cell(run["status"] + (", suspect" if run["suspect"] else "")),
        **{a: Cell(NOTHING if pd.isna(accuracies[a]) else f"{accuracies[a]:.1f}", accuracies[a]) for a in attacks},
        **{cost: Cell(f"{run[cost]:.{2 if run[cost] < 100 else 0}f}", run[cost]) for cost in RUN_COSTS},
    }


def _from_suite(table: Table) -> dict[str, Any]:
    """One of the suite's tables, its variants linked to the first of their runs."""
    links = {(index, "variant"): f"#{_runs_of(line.dataset, line.variant)}" for index, line in enumerate(table.lines)}
    cells, best = [line.cells for line in table.lines], [line.best for line in table.lines]
    return sortable(table.columns, cells, links, best=best)


def _runs_of(dataset: str, label: str) -> str:
    return f"runs-of-{dataset}/{label}"


def _hardware(runs: pd.DataFrame) -> dict[str, Any]:
    """What trained and what attacked, with how many runs or evaluations of each."""
    trained, evaluated = runs.drop_duplicates(RUN), runs[runs["evaluation_status"] == "ok"]
    lines = [
        words({"stage": stage, "hardware": hardware}) | {"records": count_of(count)} | words({"packages": packages})
        for stage, frame, columns in [
            ("training", trained, ["hardware", "packages"]),
            ("evaluation", evaluated, ["evaluation_hardware", "evaluation_packages"]),
        ]
        for (hardware, packages), count in Counter(map(tuple, frame[columns].to_numpy())).items()
    ]
    return sortable(list(lines[0]), lines)


def _citation() -> dict[str, Any]:
    """CITATION.cff, for people and as BibTeX."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    names = [author["name"] for author in cff["authors"]]
    fields = {"author": " and ".join(f"{{{name}}}" for name in names), "title": f"{{{cff['title']}}}"}
    fields |= {"version": cff["version"]}
    bibtex = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items())
    text = f"{', '.join(names)}. {cff['title']}. Version {cff['version']}."
    return {"text": text, "bibtex": f"@software{{efficient_adversarial_training,\n{bibtex}\n}}", "note": cff["message"]}


def _command(suite: Suite) -> str:
    """What makes these results again, as far as the suite's file is where the suites are."""
    file = f"configs/{suite.name}.yaml"
    return f"snakemake --cores all --configfile {shlex.quote(file)}"


def _table_widget() -> str:
    """DataTables with all that it needs, as the package itables bundles it: an address that holds the module itself."""
    source = Path(itables.options.dt_bundle).read_bytes()
    return f"data:text/javascript;charset=utf-8;base64,{base64.b64encode(source).decode()}"


if __name__ == "__main__":
    main()
