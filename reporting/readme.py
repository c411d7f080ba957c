"""Publish the results of the default suite: keep its records in results/reference/ and show them in README.md.

python -m reporting.readme            (after `snakemake`; `make readme` does both)
"""

import argparse
import shutil
from pathlib import Path

from analysis.results import collate
from experiment.errors import UserError, reported
from experiment.files import write_atomically
from experiment.suite import ROOT, Suite
from reporting import tables
from reporting.formatting import escape_markdown

SUITE = "quick"
BEGIN, END = f"<!-- {SUITE}: begin -->", f"<!-- {SUITE}: end -->"
# Weights are made again by the suite, the page from the records; digests are of the page too.
LEFT_BEHIND = shutil.ignore_patterns("*.safetensors", "*.log", "resume", "report.html", "digests.json", ".*")


def publish(results: Path, reference: Path) -> None:
    """Copy records, epochs, verdicts, tables and plots of results/<suite> to its place under `reference`.

    Raises UserError when the suite has not been run to its end.
    """
    if not (results / "summary.txt").exists():
        raise UserError(f"{results} has no summary.txt; run snakemake to its end first")
    shutil.rmtree(reference, ignore_errors=True)
    shutil.copytree(results, reference, ignore=LEFT_BEHIND)


def section(reference: Path, link: str) -> str:
    """What README.md shows of the published results: where they ran, two tables and two pictures.

    link: of `reference`, from README.md. Raises UserError where there is no record.
    """
    suite = Suite.load(ROOT / "configs" / f"{SUITE}.yaml")
    results = collate(suite, reference)
    provenance = next(iter(results.records.values())).train["provenance"]
    hardware, packages = escape_markdown(provenance["hardware"]["label"]), provenance["packages"]
    built = {table.name: table for table in tables.build(suite, results.runs)}
    front, training = f"{link}/plots/accuracy_vs_compute.png", f"{link}/plots/training.png"
    return "\n\n".join(
        [
            f"Trained on {hardware}; PyTorch {packages['torch']}, pyautoattack {packages['pyautoattack']}. "
            f"Seed by seed: [{link}/tables/robustness.md]({link}/tables/robustness.md).",
            built["robustness"].markdown_head().strip(),
            f"![AutoAttack accuracy against compute in ordinary epochs, a dot a seed]({front})",
            f"What M+ changes; [effect.md]({link}/tables/effect.md) says what the columns mean:",
            built["effect"].markdown_lines(),
            f"![Steps, gradient magnitude and validation accuracy of every variant, epoch by epoch]({training})",
        ]
    )


def rewritten(readme: str, shown: str) -> str:
    """`readme` with `shown` between the two markers. Raises UserError when it lacks them."""
    if BEGIN not in readme or END not in readme:
        raise UserError(f"README.md lacks the lines {BEGIN} and {END}, between which the results go")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{shown}\n{END}{rest.partition(END)[2]}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m reporting.readme", description=__doc__.partition("\n")[0])
    parser.parse_args(arguments)
    reference = Path("results/reference") / SUITE
    with reported("readme"):
        publish(Path("results") / SUITE, reference)
        readme = rewritten(Path("README.md").read_text(), section(reference, str(reference)))
        write_atomically(Path("README.md"), readme.encode())
    print(f"{reference} and README.md show the results of {SUITE}")


if __name__ == "__main__":
    main()
