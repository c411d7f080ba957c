"""A suite's results as one page that opens offline: `python -m reporting.page SUITE [--results DIR]`.

The page, report.html beside the records, shows the tables, the plots that `reporting.collate` drew, and a section for
every run. It asks for nothing outside itself.
"""

import argparse
import base64
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import itables.options
import jinja2
import pandas as pd
import yaml

from analysis.results import RUN, Collation, attack_names, collate
from experiment.errors import UserError, reported
from experiment.files import write_atomically
from experiment.suite import ROOT, Suite
from reporting import plots, run_pages, tables
from reporting.captions import NOTHING, describe_attacks, describe_protocol, describe_sources
from reporting.formatting import Table
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
NUMBER = re.compile(r"[+\-−]?\d+(\.\d+)?")


def write(resolved: dict, folder: Path) -> Path:
    """Write report.html into `folder` (results/<suite>), from the records, plots and examples in it; returns its path.

    Raises UserError when no run of the suite has a usable training record, or the text of examples cannot be read.
    """
    path = folder / "report.html"
    write_atomically(path, render(resolved, folder).encode())
    return path


def render(resolved: dict, folder: Path) -> str:
    """The page as HTML; see `write`."""
    collation = collate(resolved, folder)
    runs, pages = collation.runs, run_pages.read(collation.runs, folder)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        suite=resolved["suite"],
        missing=collation.missing,
        problems=[problem.replace(f"{folder}{os.sep}", "") for problem in collation.problems],
        status=_status(resolved, collation),
        summary=summary(resolved, runs),
        sections=_sections(resolved, collation, folder),
        examples=list(_examples(resolved, folder)),
        runs_table=_runs_table(resolved, runs),
        pages=pages,
        protocol=describe_protocol(resolved, runs),
        remarks=[describe_attacks(resolved, runs), *describe_sources(runs)],
        hardware=_hardware(runs),
        citation=_citation(),
        commits=Counter(map(_commit, pages)),
        command=_command(resolved),
        table_widget=_table_widget(),
    )


def sortable(
    frame: pd.DataFrame,
    links: Mapping[tuple[int, str], str] | None = None,
    names: Mapping[int, str] | None = None,
    best: pd.DataFrame | None = None,
) -> dict:
    """What the template needs of a table of texts.

    A column is numeric if every cell that says anything begins with a number; such a cell sorts by it ("53.1 ± 0.8").
    links: an address within the page, by row and column; names: by row, the name that links lead to; best: of bool,
    whether a cell is in bold.
    """
    numeric = {column for column in frame.columns if _is_numeric(frame[column])}
    rows = []
    for index, line in enumerate(frame.to_dict("records")):
        cells = [_cell(text, column in numeric) for column, text in line.items()]
        for column, cell in zip(line, cells, strict=True):
            cell["link"] = (links or {}).get((index, column))
            cell["best"] = best is not None and bool(best[column].iloc[index])
        rows.append({"name": (names or {}).get(index), "cells": cells})
    return {"columns": [(column, column in numeric) for column in frame.columns], "rows": rows}


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reporting.page", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or - for standard input")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    options = parser.parse_args(arguments)
    with reported("report"):
        suite = Suite.load(options.suite)
        print(f"Report: {os.path.relpath(write(suite.resolved, options.results / suite.name))}")


def _is_numeric(column: pd.Series) -> bool:
    said = [text for text in column if text not in ("", NOTHING)]
    return bool(said) and all(NUMBER.match(text) for text in said)


def _cell(text: str, numeric: bool) -> dict:
    """A cell's text, the interval that follows its number, and the number to sort by: "" for none, None for words."""
    if not numeric:
        return {"text": text, "interval": "", "key": None}
    value, bracket, interval = text.partition(" [")
    found = NUMBER.match(text)
    key = found[0].replace("−", "-") if found else ""
    return {"text": value, "interval": bracket.strip() + interval, "key": key}


def _status(resolved: dict, collation: Collation) -> list[tuple[str, str, bool]]:
    """What to know before any number: a count, its words, and whether a reader should look into it."""
    runs, trained = collation.runs, collation.runs.drop_duplicates(RUN)
    planned = len(resolved["datasets"]) * len(resolved["variants"]) * len(resolved["seeds"])
    evaluated, attacks = int((runs["evaluation_status"] != "missing").sum()), planned * len(attack_names(resolved))
    doubts = {
        "collapsed": int((trained["status"] == "collapsed").sum()),
        "diverged": int((trained["status"] == "diverged").sum()),
        "suspect": int((trained["suspect"] != "").sum()),
        f"unusable file{'s' * (len(collation.problems) != 1)}": len(collation.problems),
    }
    return [
        (f"{len(trained)} of {planned}", "runs trained", len(trained) < planned),
        (f"{evaluated} of {attacks}", "evaluations done", evaluated < attacks),
        *((str(count), words, count > 0) for words, count in doubts.items()),
    ]


def _sections(resolved: dict, collation: Collation, folder: Path) -> list[dict]:
    """Tables and plots under the question that they answer; those that no section asks for have one of their own."""
    built = {table.name: table for table in tables.build(resolved, collation.runs)}
    texts = plots.texts(resolved, collation.runs, collation.epochs)
    paths = {stem: folder / "plots" / f"{stem}.svg" for stem in texts}
    drawn = {stem: text for stem, text in texts.items() if paths[stem].exists()}
    sections = []
    for name, title, asked, beginnings in [*SECTIONS, ("more", "More", list(built), ("",))]:
        ours = [built.pop(table) for table in asked if table in built]
        stems = [stem for stem in drawn if stem.startswith(beginnings)]
        pictures = [_picture(paths[stem], "svg+xml", drawn.pop(stem)) for stem in stems]
        if ours or pictures:
            shown = [(table, _from_suite(resolved, table)) for table in ours]
            sections.append({"name": name, "title": title, "tables": shown, "pictures": pictures})
    return sections


def _picture(path: Path, kind: str, text: PlotText) -> dict:
    """An image inside the page: an image of its own, for two SVGs in one document would share their names' space."""
    content = base64.b64encode(path.read_bytes()).decode()
    return {"source": f"data:image/{kind};base64,{content}", "text": text}


def _examples(resolved: dict, folder: Path) -> Iterator[dict]:
    """The examples of adversarial images of each data set that has one."""
    for dataset in resolved["datasets"]:
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


def _runs_table(resolved: dict, runs: pd.DataFrame) -> dict:
    """A line for every run that the suite asks for, trained or not."""
    lines, links, names = [], {}, {}
    known = dict(list(runs.groupby(RUN, sort=False)))
    for dataset in resolved["datasets"]:
        for label in (variant["label"] for variant in resolved["variants"]):
            names[len(lines)] = _runs_of(dataset, label)
            for seed in resolved["seeds"]:
                line = {"dataset": dataset} if len(resolved["datasets"]) > 1 else {}
                line |= {"variant": label, "seed": str(seed)}
                if (dataset, label, seed) in known:
                    links[len(lines), "variant"] = f"#{run_pages.name(dataset, label, seed)}"
                lines.append(line | _outcome(resolved, known.get((dataset, label, seed))))
    return sortable(pd.DataFrame(lines), links, names)


def _outcome(resolved: dict, rows: pd.DataFrame | None) -> dict[str, str]:
    """How a run ended: its status, accuracies in %, and cost."""
    attacks = attack_names(resolved)
    if rows is None:
        return {"status": "not trained"} | dict.fromkeys([*attacks, "seconds", "passes"], NOTHING)
    run = rows.iloc[0]
    accuracies = rows.set_index("attack")["accuracy"]
    return {
        "status": run["status"] + (", suspect" if run["suspect"] else ""),
        **{a: NOTHING if pd.isna(accuracies[a]) else f"{100 * accuracies[a]:.1f}" for a in attacks},
        "seconds": f"{run['seconds']:.{2 if run['seconds'] < 100 else 0}f}",
        "passes": f"{run['passes']:.1f}",
    }


def _from_suite(resolved: dict, table: Table) -> dict:
    """One of the suite's tables, its variants linked to the first of their runs."""
    labels = {variant["label"] for variant in resolved["variants"]}
    links = {}
    for index, line in enumerate(table.shown.to_dict("records")):
        label = line.get("variant", "").partition(", not ")[0]
        if label in labels:
            links[index, "variant"] = f"#{_runs_of(line.get('dataset', resolved['datasets'][0]), label)}"
    return sortable(table.shown, links, best=table.best)


def _runs_of(dataset: str, label: str) -> str:
    return f"runs-of-{dataset}/{label}"


def _hardware(runs: pd.DataFrame) -> dict:
    """What trained and what attacked, with how many runs or evaluations of each."""
    trained, evaluated = runs.drop_duplicates(RUN), runs[runs["evaluation_status"] == "ok"]
    lines = [
        {"stage": stage, "hardware": hardware, "records": str(count), "packages": packages}
        for stage, frame, columns in [
            ("training", trained, ["hardware", "packages"]),
            ("evaluation", evaluated, ["evaluation_hardware", "evaluation_packages"]),
        ]
        for (hardware, packages), count in Counter(map(tuple, frame[columns].to_numpy())).items()
    ]
    return sortable(pd.DataFrame(lines))


def _commit(page: run_pages.RunPage) -> str:
    """The commit that trained the run, and whether the files were as in it."""
    changed = page.provenance["git.dirty"] == "yes"
    return f"{page.provenance['git.commit']}{', with changes that are in no commit' * changed}"


def _citation() -> dict:
    """CITATION.cff, for people and as BibTeX."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    names = [author["name"] for author in cff["authors"]]
    fields = {"author": " and ".join(f"{{{name}}}" for name in names), "title": f"{{{cff['title']}}}"}
    fields |= {"version": cff["version"]}
    bibtex = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items())
    text = f"{', '.join(names)}. {cff['title']}. Version {cff['version']}."
    return {"text": text, "bibtex": f"@software{{efficient_adversarial_training,\n{bibtex}\n}}", "note": cff["message"]}


def _command(resolved: dict) -> str:
    """What makes these results again, as far as the suite's file is where the suites are."""
    file = f"configs/{resolved['suite']}.yaml"
    return f"snakemake --cores all --configfile {shlex.quote(file)}"


def _table_widget() -> str:
    """DataTables with all that it needs, as the package itables bundles it: an address that holds the module itself."""
    source = Path(itables.options.dt_bundle).read_bytes()
    return f"data:text/javascript;charset=utf-8;base64,{base64.b64encode(source).decode()}"


if __name__ == "__main__":
    main()
