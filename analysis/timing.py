"""Which seconds are compared: those of runs that other work on the machine disturbed only where there are no others."""

import pandas as pd

from analysis.results import RUN

MARK = "†"  # beside seconds of which all were disturbed
LINE = ["dataset", "variant", "hardware"]


def timed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose seconds count: of each variant those of undisturbed runs, or all of them where none is."""
    quiet = rows["disturbed"] == ""
    return rows[quiet | ~quiet.groupby([rows[column] for column in LINE]).transform("any")] if len(rows) else rows


def timed_pairs(pairs: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """Of pairs, a row a seed, those whose times are compared, and whether these were disturbed, as all others are.

    Both ran on the same hardware, and neither was disturbed where there is such a pair.
    """
    same = pairs[pairs["hardware_base"] == pairs["hardware_mplus"]]
    quiet = same[(same["disturbed_base"] == "") & (same["disturbed_mplus"] == "")]
    return (quiet, False) if len(quiet) else (same, len(same) > 0)


def disturbed(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each run that was disturbed while it was timed."""
    return runs[runs["disturbed"] != ""].drop_duplicates(RUN)


def left_out(runs: pd.DataFrame) -> list[str]:
    """A sentence on what becomes of the seconds of disturbed runs; none where there is none."""
    count = len(disturbed(runs))
    said = (
        f"Timed beside other work on the machine: {count} of {len(runs.drop_duplicates(RUN))} runs; their seconds are "
        f"in a mean only where all of its runs were ({MARK}), and no speed-up is claimed from them."
    )
    return [said] if count else []


def describe_disturbed(runs: pd.DataFrame) -> list[str]:
    """The same, and a sentence for each such run: "Disturbed: fast seed 0 (...)."."""
    found = disturbed(runs).itertuples()
    return left_out(runs) + [
        f"Disturbed: {run.variant} seed {run.seed} ({run.dataset}): {run.disturbed}." for run in found
    ]
