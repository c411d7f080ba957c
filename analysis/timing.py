"""Which seconds are compared: those of runs that other work on the machine disturbed only where there are no others."""

import pandas as pd

from analysis.results import RUN

LINE = ["dataset", "variant", "hardware"]


def timed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose seconds count: of each variant those of undisturbed runs, or all of them where none is."""
    quiet = rows["disturbed"] == ""
    return rows[quiet | ~quiet.groupby([rows[column] for column in LINE]).transform("any")] if len(rows) else rows


def timed_pairs(pairs: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """Of pairs, a row a seed, those whose times are compared, and whether these were disturbed, as all others are.

    Both ran on the same hardware, and neither was disturbed where there is such a pair.
    """
    same = pairs[pairs["hardware_base"] == pairs["hardware_variant"]]
    quiet = same[(same["disturbed_base"] == "") & (same["disturbed_variant"] == "")]
    return (quiet, False) if len(quiet) else (same, len(same) > 0)


def disturbed(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each run that was disturbed while it was timed."""
    return runs[runs["disturbed"] != ""].drop_duplicates(RUN)
