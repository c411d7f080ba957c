"""Publish a suite's results: keep its records in results/reference/, and show in README.md what is shown there.

    python -m reporting.readme configs/cifar10_cpu.yaml        (after `snakemake --configfile` of the same)

Runs of the suite that were published before and are not there now stay, so that seeds are added one by one: name the
new one in `seeds` beside the published ones, and make it alone by `snakemake --configfile ... --config seeds=[1]`.
"""

import argparse
import contextlib
import shutil
from pathlib import Path

from analysis import digests
from analysis.results import collate
from experiment import claim
from experiment.errors import UserError, reported
from experiment.files import write_atomically
from experiment.suite import Suite
from reporting import tables
from reporting.collate import report
from reporting.formatting import escape_markdown
from reporting.summary import summary

# Weights are made again by the suite, the page from the records; digests are of the page too.
LEFT_BEHIND = shutil.ignore_patterns("*.safetensors", "*.log", "logs", "resume", "report.html", "digests.json", ".*")


def publish(suite: Suite, file: Path, results: Path, reference: Path) -> None:
    """Copy records, epochs, verdicts, tables and plots of results/<suite> to its place under `reference`.

    file: of the suite. Runs of the suite that only `reference` has are kept, and tables and plots are made of all.
    Raises UserError when the tables in `results` are not of all its runs, or `reference` has runs the suite has not.
    """
    _check_finished(results)
    runs = [run.folder for run in suite.runs()]
    if strangers := sorted(folder for folder in _runs_in(reference) if folder not in runs):
        raise UserError(
            f"{reference} has {strangers[0]}, which {file} has not; name its seed there, or delete it first"
        )
    new = reference.with_name(f".{reference.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(results, new, ignore=LEFT_BEHIND)
    for folder in _runs_in(new) - set(runs):
        shutil.rmtree(new / folder)
    for folder in _runs_in(reference) - _runs_in(new):
        shutil.copytree(reference / folder, new / folder)
    shutil.rmtree(reference, ignore_errors=True)
    new.rename(reference)
    if _runs_in(reference) != _runs_in(results):
        write_atomically(reference / claim.COPY, claim.copy_of(suite, [file]).encode())
        with open(reference / "summary.txt", "w") as text, contextlib.redirect_stdout(text):
            report(suite, reference)


def _check_finished(results: Path) -> None:
    """Raise UserError where Snakemake has not come to the end with what lies in results/<suite>."""
    try:
        why = digests.reason(Suite.load(results / claim.COPY), results)
    except UserError as error:
        why = str(error)
    if why is not None:
        raise UserError(f"{results} is not finished, for {why}; run snakemake to its end first")


def _runs_in(folder: Path) -> set[str]:
    """The folders of runs that have a record, from `folder`."""
    return {path.parent.relative_to(folder).as_posix() for path in folder.glob("*/*/seed*/train.json")}


def section(suite: Suite, reference: Path, link: str) -> str:
    """What README.md shows of the published results: what came out, two pictures, two tables, and what to know of them.

    link: of `reference`, from README.md. Raises UserError where there is no record.
    """
    results = collate(suite, reference)
    made = [of_run.train["provenance"] for of_run in results.records.values() if of_run.train]
    versions = [
        f"{name} {' and '.join(sorted({each['packages'][package] for each in made}))}"
        for name, package in (("PyTorch", "torch"), ("pyautoattack", "pyautoattack"))
    ]
    built = {table.name: table for table in tables.build(suite, results.runs)}
    robustness, effect = built["robustness"], built["effect"]
    answer, _, doubts = summary(suite, results.runs)
    front, training = f"{link}/plots/accuracy_vs_compute.png", f"{link}/plots/training.png"
    parts = [
        f"{escape_markdown(answer)} {escape_markdown(doubts)}",
        f"![AutoAttack accuracy against compute in ordinary epochs, a dot a seed]({front})",
        robustness.markdown_lines(),
        effect.markdown_lines(),
        f"![Steps, gradient magnitude and validation accuracy of every variant, epoch by epoch]({training})",
        f"{escape_markdown(robustness.caption)} Made with {' and '.join(versions)}. "
        f"Whole tables: [robustness]({link}/tables/robustness.md), [effect]({link}/tables/effect.md), which says what "
        f"its columns mean, and [cost]({link}/tables/cost.md).",
        robustness.markdown_notes().strip(),
    ]
    return "\n\n".join(part for part in parts if part)


def markers(name: str) -> tuple[str, str]:
    """The lines of README.md between which the results of the suite of that name are shown."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def rewritten(readme: str, name: str, shown: str) -> str:
    """`readme` with `shown` between the markers of the suite `name`; as it is where it shows nothing of it."""
    begin, end = markers(name)
    if begin not in readme or end not in readme:
        return readme
    before, _, rest = readme.partition(begin)
    return f"{before}{begin}\n{shown}\n{end}{rest.partition(end)[2]}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m reporting.readme", description=__doc__.partition("\n")[0])
    parser.add_argument("suite", type=Path, metavar="SUITE", help="a suite's YAML file")
    options = parser.parse_args(arguments)
    with reported("readme"):
        suite = Suite.load(options.suite)
        reference = Path("results/reference") / suite.name
        publish(suite, options.suite, Path("results") / suite.name, reference)
        readme = Path("README.md").read_text()
        shown = rewritten(readme, suite.name, section(suite, reference, str(reference)))
        write_atomically(Path("README.md"), shown.encode())
    print(f"{reference} {'and README.md show' if shown != readme else 'shows'} the results of {suite.name}")


if __name__ == "__main__":
    main()
