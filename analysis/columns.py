"""What every column of every CSV means, declared once: `python -m analysis.columns` writes docs/columns.md from it.

A name with <attack> in it stands for one column for each attack of the suite. Digests and sums of files are no tables.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiment.files import write_atomically
from experiment.suite import ROOT

PAGE = ROOT / "docs" / "columns.md"
ATTACK = "<attack>"
NOT_COLLAPSED = "_not_collapsed"
WHOLE = "Int64"  # of whole numbers that may be missing
OPERATIONS = (
    "floating-point operations of training, over those of a forward and a full backward of every training image"
)
PASSES = "backwards through the whole network, weighted by images, over the training images"
ROBUSTNESS_VERDICTS = "equivalent, weaker, stronger, inconclusive, collapsed, untested; empty for no pair"
NEEDED = "at which one of the tests would probably decide; empty where one has, or none would"


@dataclass(frozen=True)
class Column:
    """A column of a CSV: its name, its unit ("" for none), what it means in a clause, and the type of its cells.

    twice: whether there is another one, its name ending in _not_collapsed, of the runs that did not collapse alone.
    """

    name: str
    unit: str
    meaning: str
    type: type | str = float
    twice: bool = False


def _of_run(*more: Column) -> tuple[Column, ...]:
    return (
        Column("dataset", "", "the data set", str),
        Column("variant", "", "the variant's label", str),
        Column("base", "", "label of the variant that it is compared with; empty for none", str),
        Column("method", "", "folder of methods/ that trained it", str),
        Column("rule", "", "its steps rule", str),
        *more,
    )


def _spread(name: str, unit: str, meaning: str, count: str = "", twice: bool = False) -> Iterator[Column]:
    """A mean over seeds and what belongs to it. count: what is counted, where it is."""
    yield Column(f"{name}_mean", unit, f"{meaning}, mean over seeds", float, twice)
    yield Column(f"{name}_std", unit, "sample standard deviation of the same; empty for one seed", float, twice)
    if count:
        yield Column(f"{name}_n", count, "how many seeds the mean is over", int, twice)


def _ratio(cost: str, meaning: str) -> Iterator[Column]:
    yield Column(f"{cost}_ratio_mean", "ratio", f"{meaning} of the base over the variant's, geometric mean", twice=True)
    for side in ("low", "high"):
        yield Column(f"{cost}_ratio_{side}", "ratio", f"{side} end of its 95 % t interval on the log scale", twice=True)
    yield Column(f"{cost}_ratio_n", "pairs", "how many pairs it is over", int, twice=True)


EPOCHS = (
    Column("epoch", "", "which epoch, from 0", int),
    Column("seconds", "s", "of training in that epoch, by the clock of docs/design.md"),
    Column("cpu_seconds", "s", "CPU time of the process meanwhile"),
    Column("compute", "ordinary epochs", OPERATIONS),
    Column("passes", "sweeps", PASSES),
    Column("updates", "updates", "of the weights", int),
    Column("steps", "steps", "adversarial iterations of a minibatch", int),
    Column("step_size", "pixel units", "length of one of them; 1 is from black to white"),
    Column("learning_rate", "", "of the epoch's last update"),
    Column("train_loss", "nats", "mean of the adversarial training loss"),
    Column("train_accuracy", "fraction", "of adversarial training images that were classified correctly"),
    Column("magnitude", "", "the gradient magnitude that M+ looks at; empty where no rule asked for it"),
    Column("validation_clean_accuracy", "fraction", "on the validation split"),
    Column("validation_fgsm_accuracy", "fraction", "on the validation split, attacked by FGSM"),
    Column("validation_pgd_accuracy", "fraction", "on the validation split, attacked by PGD"),
    Column(
        "trained_clean_accuracy",
        "fraction",
        "on the validation split, of the trained network; empty where no average of its weights is evaluated",
    ),
    Column("trained_fgsm_accuracy", "fraction", "the same, attacked by FGSM"),
    Column("trained_pgd_accuracy", "fraction", "the same, attacked by PGD"),
)

OF_TRAINED = tuple(
    column.name for column in EPOCHS if column.name.startswith("trained_")
)  # were not there from the start

RUNS = (
    *_of_run(
        Column("seed", "", "the run's seed", int),
        Column("status", "", "ok, collapsed (catastrophic overfitting) or diverged (non-finite)", str),
        Column("status_epoch", "", "epoch, from 0, at which that was first seen; empty for ok", WHOLE),
        Column("status_reason", "", "how it was seen; empty for ok", str),
        Column("attack", "", "label of the attack", str),
        Column("evaluation_status", "", "ok, not-evaluated (the run diverged) or missing", str),
        Column("attack_steps", "steps", "of the attack; empty where it has no such number", WHOLE),
        Column("attack_step_size", "pixel units", "length of one of them; empty as before"),
        Column("attack_restarts", "starts", "random starts of each image; empty as before", WHOLE),
        Column("images", "images", "of the test split that were attacked", WHOLE),
        Column("correct", "images", "of them that no adversarial image was found for", WHOLE),
        Column("accuracy", "fraction", "correct / images"),
        Column("interval_low", "fraction", "low end of the accuracy's 95 % Wilson interval"),
        Column("interval_high", "fraction", "its high end"),
        Column("flags", "", "what made the attack doubtful; empty for nothing", str),
    ),
    Column(
        "seconds", "s", "of training, by the clock of docs/design.md; with its teacher's, as are compute and passes"
    ),
    Column("cpu_seconds", "s", "CPU time of the process meanwhile; a teacher's is not in it"),
    Column("others_cores", "cores", "how many of its cores others kept busy meanwhile; empty where not known"),
    Column("cores_beside", "cores", "how many of the machine's other cores were busy meanwhile; empty where not known"),
    Column("epoch_spread", "fraction", "by how much epochs took longer than the quicker ones like them"),
    Column("compute", "ordinary epochs", OPERATIONS),
    Column("passes", "sweeps", PASSES),
    Column("forwards", "sweeps", "forwards through the whole network, weighted likewise"),
    Column("updates", "updates", "of the weights", int),
    Column("images_per_second", "images/s", "of the training split in every epoch; replays are not counted again"),
    Column("peak_memory_bytes", "bytes", "most memory while the clock ran", int),
    Column("peak_memory_of", "", "of what: the process, or PyTorch's allocations on the gpu", str),
    Column("teacher_seconds", "s", "of `seconds`, what the variant that it learnt from took; empty for none"),
    Column("teacher_compute", "ordinary epochs", "the same of `compute`"),
    Column("disturbed", "", "why the seconds are not those of a machine without other work; empty for nothing", str),
    Column("evaluated_epoch", "", "the epoch, from 0, whose weights were attacked", WHOLE),
    Column("hardware", "", "that trained it", str),
    Column("precision", "", "arithmetic of training: fp32, tf32 or bf16", str),
    Column("engine_sha256", "", "SHA-256 of what all runs share: the training loop and what it imports", str),
    Column("method_sha256", "", "SHA-256 of the method's source, as it was in training", str),
    Column("evaluation_seconds", "s", "that the attack took"),
    Column("evaluation_hardware", "", "that attacked it", str),
    Column("evaluation_precision", "", "arithmetic of the attack", str),
    Column("evaluation_engine_sha256", "", "as engine_sha256, of the attack", str),
    Column("weights_sha256", "", "SHA-256 of the weights that were attacked", str),
    Column("data_sha256", "", "SHA-256 of the training split", str),
    Column("evaluation_data_sha256", "", "SHA-256 of the test split", str),
    Column("suspect", "", "why the run's accuracies are not to be believed; empty for nothing", str),
)

ROBUSTNESS = (
    *_of_run(
        Column("planned", "runs", "that the suite asks for", int),
        Column("runs", "runs", "that were trained", int),
        Column("collapsed", "runs", "of them that collapsed", int),
        Column("diverged", "runs", "of them that diverged; they are in no mean", int),
        Column("suspect", "runs", "of them that are suspect", int),
    ),
    *_spread(f"{ATTACK}_percent", "%", "accuracy under the attack", "runs", twice=True),
    Column(f"{ATTACK}_percent_seeds", "%", "the accuracies in the order of the suite's seeds, – for none", str),
)

COST = (
    *_of_run(
        Column("hardware", "", "that trained the runs of this row", str),
        Column("n", "runs", "that the means of counts are over", int),
        Column("diverged", "runs", "that diverged; they are in no mean", int),
        Column("disturbed", "runs", "of n whose seconds other work on the machine disturbed", int),
        Column("n_timed", "runs", "that the means of times are over: undisturbed ones, or all where none is", int),
    ),
    *_spread("seconds", "s", "seconds of training"),
    *_spread("compute", "ordinary epochs", "floating-point operations, as in runs.csv"),
    *_spread("passes", "sweeps", "backwards through the whole network, as in runs.csv"),
    *_spread("images_per_second", "images/s", "images of the training split a second"),
    *_spread("peak_memory_bytes", "bytes", "most memory in training"),
    *_spread("forwards", "sweeps", "forwards through the whole network"),
    *_spread("updates", "updates", "updates of the weights"),
)

EFFECT = (
    *_of_run(
        Column("n", "pairs", "of the variant's and its base's runs of one seed, neither of which diverged", int),
        Column("missing", "seeds", "of which one run or both are missing", int),
        Column("diverged", "seeds", "of which one run or both diverged", int),
        Column("collapsed", "pairs", "of which one run or both collapsed", int),
    ),
    Column("verdict", "", "on cost and accuracy, in words", str, twice=True),
    Column("cost_verdict", "", "what compute says in every pair, and whether seconds bear it out", str, twice=True),
    Column("robustness_verdict", "", ROBUSTNESS_VERDICTS, str, twice=True),
    Column("headline", "", "label of the attack that is judged by", str),
    Column("margin_points", "points", "within which accuracies are equivalent"),
    *_ratio("compute", "compute"),
    *_ratio("passes", "passes"),
    *_ratio("seconds", "seconds, of pairs on one hardware"),
    Column("seconds_ratio_disturbed", "", "whether all of these were timed beside other work", bool, twice=True),
    *_spread(f"{ATTACK}_points", "points", "accuracy of the variant minus its base's", "pairs", twice=True),
    Column(
        f"{ATTACK}_points_low",
        "points",
        "low end of the mean's 95 % interval, for other seeds and other images",
        twice=True,
    ),
    Column(f"{ATTACK}_points_high", "points", "its high end", twice=True),
    Column(
        f"{ATTACK}_points_low_seeds_only",
        "points",
        "low end of the mean's 95 % t interval over seeds alone",
        twice=True,
    ),
    Column(f"{ATTACK}_points_high_seeds_only", "points", "its high end", twice=True),
    Column(
        f"{ATTACK}_equivalence_p", "", "p of two one-sided tests that the difference exceeds the margin", twice=True
    ),
    Column(f"{ATTACK}_equivalence_p_seeds_only", "", "the same over seeds alone", twice=True),
    Column(f"{ATTACK}_difference_p", "", "p of the two-sided test that there is no difference", twice=True),
    Column(f"{ATTACK}_seeds_needed", "seeds", NEEDED, twice=True),
    Column(f"{ATTACK}_only_base", "images", "right for the base's run alone, seed by seed", str),
    Column(f"{ATTACK}_only_variant", "images", "right for the variant's run alone, seed by seed", str),
    Column(f"{ATTACK}_mcnemar_p", "", "p of McNemar's exact test on these, seed by seed", str),
)

LITERATURE = (
    *_of_run(
        Column("quantity", "", "what is compared: an attack, whose unit is %, or passes or minutes", str),
        Column("source", "", "of the published number; its key in results/reference/sources.yaml", str),
        Column("published_method", "", "as in published.csv", str),
        Column("published_rule", "", "as in published.csv", str),
        Column("counted", "", "which of our runs: all but diverged ones, or those not collapsed", str),
        Column("hardware", "", "of ours", str),
        Column("published_hardware", "", "of theirs", str),
        Column("n", "runs", "of ours", int),
    ),
    Column("ours_mean", "as quantity", "mean over our runs"),
    Column("ours_std", "as quantity", "its sample standard deviation"),
    Column("published", "as quantity", "the published number"),
    Column("difference", "points", "ours minus published; empty for costs"),
    Column("difference_low", "points", "low end of its 95 % t interval over our seeds"),
    Column("difference_high", "points", "its high end"),
    Column("differs", "", "what of the published run's settings is not ours, or not stated", str),
)

FILES = {
    "runs.csv": ("One row a trained run and attack.", RUNS),
    "<dataset>/<variant>/seed<k>/epochs.csv": ("One row an epoch of one run.", EPOCHS),
    "tables/robustness.csv": ("One row a data set and variant.", ROBUSTNESS),
    "tables/cost.csv": ("One row a data set, variant and hardware.", COST),
    "tables/effect.csv": ("One row a data set and variant that names a base.", EFFECT),
    "tables/literature.csv": ("One row a data set, variant, published run and quantity.", LITERATURE),
}


def names(columns: Sequence[Column], attacks: Sequence[str] = ()) -> list[str]:
    """The name of every column that a file may have, given the suite's attacks."""
    single = [
        column.name.replace(ATTACK, attack)
        for column in columns
        for attack in (attacks if ATTACK in column.name else ("",))
    ]
    again = [
        f"{column.name.replace(ATTACK, attack)}{NOT_COLLAPSED}"
        for column in columns
        if column.twice
        for attack in (attacks if ATTACK in column.name else ("",))
    ]
    return [*single, *again]


def types(columns: Sequence[Column]) -> dict[str, type | str]:
    """The type of every column's cells, by name, for a file whose columns are no attack's."""
    return {column.name: column.type for column in columns}


def page() -> str:
    """The text of docs/columns.md."""
    parts = [
        "# Columns",
        "What every column of every CSV below `results/<suite>/` means. Written by `python -m analysis.columns` from "
        "analysis/columns.py; change it there.",
        f"`{ATTACK}` stands for the label of each of the suite's attacks. A name with (+) has a second column, which "
        f"ends in `{NOT_COLLAPSED}`: the same of the runs (or pairs of runs) that did not collapse, where some did and "
        "others did not. A number that is not known is an empty cell, never 0.",
    ]
    for file, (rows, columns) in FILES.items():
        lines = [f"| `{c.name}`{' (+)' * c.twice} | {c.unit} | {c.meaning} |" for c in columns]
        parts += [f"## {file}", rows, "\n".join(["| column | unit | meaning |", "|---|---|---|", *lines])]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m analysis.columns", description="Write docs/columns.md.")
    parser.parse_args(arguments)
    write_atomically(PAGE, page().encode())
    print(f"Written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
