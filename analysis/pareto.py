"""Accuracy against cost: where each variant stands, and which are on the Pareto front of the variants' means."""

import pandas as pd

from analysis.statistics import pareto_front
from analysis.timing import timed
from experiment.suite import Suite

DOUBTS = ("collapsed", "diverged", "suspect", "disturbed")


def standings(suite: Suite, rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Where each variant stands in `rows` (one a run, of one data set and attack), in the suite's order.

    cost: "seconds", "compute" or "passes". By label: `cost` and `percent`, means of the runs that are ok (NaN where
    none is); how many `runs` there are, and of them `collapsed`, `diverged` and `suspect`; `disturbed`: how many, where
    the cost is seconds and all that are ok were, else their seconds are in no mean; `front`: whether no other mean is
    as cheap and more accurate, or cheaper and as accurate. A variant with any run counted so is not on the front, nor
    does it keep others off it: its mean is one of the runs that went well, or of seconds of which nothing can be said.
    """
    found = {}
    for label, runs in rows.groupby("variant"):
        ok = runs[(runs["status"] == "ok") & runs["accuracy"].notna()]
        costing = timed(ok) if cost == "seconds" else ok
        counts = runs["status"].value_counts()
        failed = {status: int(counts.get(status, 0)) for status in ("collapsed", "diverged")}
        failed["suspect"] = int((runs["suspect"] != "").sum())
        failed["disturbed"] = int((costing["disturbed"] != "").sum()) if cost == "seconds" else 0
        means = {"cost": costing[cost].mean(), "percent": 100 * ok["accuracy"].mean()}
        found[str(label)] = {**means, "runs": len(runs), **failed}
    order = [variant.label for variant in suite.variants if variant.label in found]
    result = pd.DataFrame.from_dict({label: found[label] for label in order}, orient="index")
    reliable = result["percent"].notna() & (result[list(DOUBTS)].sum(axis=1) == 0)
    result["front"] = False
    best = result[reliable]
    result.loc[reliable, "front"] = pareto_front(best["cost"].to_numpy(float), best["percent"].to_numpy(float))
    return result


def comparable(rows: pd.DataFrame, cost: str) -> list[tuple[str, pd.DataFrame]]:
    """The rows whose costs may be compared, by the hardware that took the seconds ("" for what was counted)."""
    return [(str(name), part) for name, part in rows.groupby("hardware")] if cost == "seconds" else [("", rows)]
