"""Publish the results of the default suite: keep its records in results/reference/ and show them in README.md.

python -m evaluation.readme            (after `snakemake`; `make readme` does both)
"""

import shutil
import sys
from pathlib import Path

from experiment.errors import UserError
from experiment.record import read, write_atomically

SUITE = "quick"
BEGIN, END = f"<!-- {SUITE}: begin -->", f"<!-- {SUITE}: end -->"
LEFT_BEHIND = shutil.ignore_patterns("*.safetensors", "*.log", "resume", ".*")  # weights are made again by the suite


def publish(results: Path, reference: Path) -> None:
    """Copy records, epochs, verdicts, tables and plots of results/<suite> to its place under `reference`.

    Raises UserError when the suite has not been run to its end.
    """
    if not (results / "summary.txt").exists():
        raise UserError(f"{results} has no summary.txt; run snakemake to its end first")
    shutil.rmtree(reference, ignore_errors=True)
    shutil.copytree(results, reference, ignore=LEFT_BEHIND)


def section(reference: Path, link: str) -> str:
    """What README.md shows of the published results: where they ran, a table and a picture."""
    record = read(min(reference.glob("*/*/*/train.json")))
    hardware, packages = record["provenance"]["hardware"]["label"], record["provenance"]["packages"]
    table = (reference / "tables" / "robustness.md").read_text().partition("<details>")[0].strip()
    picture = f"{link}/plots/accuracy_vs_passes.png"
    effect = (reference / "tables" / "mplus_effect.md").read_text().strip()
    return (
        f"Trained on {hardware}; PyTorch {packages['torch']}, pyautoattack {packages['pyautoattack']}. Seed by seed: "
        f"[{link}/tables/robustness.md]({link}/tables/robustness.md).\n\n{table}\n\n"
        f"![AutoAttack accuracy against passes over the training data, a dot a seed]({picture})\n\n{effect}"
    )


def rewritten(readme: str, shown: str) -> str:
    """`readme` with `shown` between the two markers. Raises UserError when it lacks them."""
    if BEGIN not in readme or END not in readme:
        raise UserError(f"README.md lacks the lines {BEGIN} and {END}, between which the results go")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{shown}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    reference = Path("results/reference") / SUITE
    try:
        publish(Path("results") / SUITE, reference)
        readme = rewritten(Path("README.md").read_text(), section(reference, str(reference)))
        write_atomically(Path("README.md"), readme.encode())
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{reference} and README.md show the results of {SUITE}")


if __name__ == "__main__":
    main()
