"""Our numbers beside published ones for the same method, data set, network, ball and attack: the table."""

import math
from collections.abc import Iterator
from string import ascii_lowercase

import pandas as pd

from analysis.published import Match, differences, matches, read_published
from analysis.results import RUN
from analysis.statistics import Summary, paired_interval, summarize
from analysis.timing import timed
from experiment import plugins
from experiment.suite import Suite
from reporting.captions import MARK, NOTHING, SPREAD, describe_protocol, describe_runs, describe_sources, left_out
from reporting.formatting import Cell, Line, Table, make_table, mean_of, signed, words

COSTS = {"passes": ("passes", 1.0), "minutes": ("seconds", 1 / 60)}  # column of the runs frame, and its factor
NONE = "No published number that we know of is of a method, data set, network, ball and attack of this suite."


def literature(suite: Suite, runs: pd.DataFrame) -> Table:
    """A line for every attack and cost that a variant and a published run of the same have in common.

    suite, runs: as for `reporting.tables.build`. Raises UserError where published.csv cannot be used.
    """
    data, lines, letters, titles, matched = [], [], {}, {}, set()
    published, sources = read_published()
    for match in matches(suite, runs, published, sources):
        matched.add((match.identity.dataset, match.identity.variant))
        differ = differences(suite, match)
        for found in [*_lines(match, "all"), *_lines(match, "not collapsed")]:
            phrases = [*differ, *_of_quantity(suite, match, found)]
            data.append({**match.identity._asdict(), **found, "differs": "; ".join(phrases)})
            marks = ", ".join(_letter(i) for i in sorted(letters.setdefault(each, len(letters)) for each in phrases))
            cells = _cells(suite, data[-1], marks)
            lines.append(Line(match.identity.dataset, match.identity.variant, cells))
            seeds = match.source["seeds"]
            titles[found["source"]] = f"{match.source['title']} {match.source['url']}, {seeds} seed{'s' * (seeds > 1)}."
    if not lines:
        return make_table("literature", _why_none(suite, published), [], [], [])
    notes = [f"{_letter(index)}: {phrase}." for phrase, index in letters.items()]
    notes += [f"{source}: {title}" for source, title in titles.items()]
    return make_table("literature", _caption(suite, runs), notes + _notes(suite, runs, matched), data, lines)


def _why_none(suite: Suite, published: pd.DataFrame) -> list[str]:
    """That nothing compares and, where that is for the network's own parameters, what they are."""
    name, changed = suite.network.name, plugins.changed("network", suite.resolved["network"])
    alike = (published["architecture"] == name) & published["dataset"].isin(suite.datasets)
    own = (
        f"Published numbers are of {name} itself; this suite's has {', '.join(f'{k} {v}' for k, v in changed.items())}."
    )
    return [NONE, *([own] if changed and alike.any() else [])]


def _notes(suite: Suite, runs: pd.DataFrame, matched: set[tuple[str, str]]) -> list[str]:
    """What is to be said of ours: variants without a counterpart, runs that failed, records of different sources."""
    notes = []
    for dataset in suite.datasets:
        rest = [v.label for v in suite.variants if (dataset, v.label) not in matched]
        notes += [f"Without a published counterpart on {dataset}: {', '.join(rest)}."] if rest else []
    used = runs[[pair in matched for pair in zip(runs["dataset"], runs["variant"], strict=True)]]
    for status, where in (("collapsed", "left out of the lines that say so"), ("diverged", "in no mean")):
        names = describe_runs(used, status)
        notes += [f"Ours that {status}, {where}: {names}."] if names else []
    return notes + left_out(used) + describe_sources(used)


def _caption(suite: Suite, runs: pd.DataFrame) -> list[str]:
    return [
        "Ours beside published numbers for the same method, data set, network, ball and attack; accuracy in % on test "
        "images.",
        SPREAD,
        describe_protocol(suite, runs),
        "Difference: ours minus published, in points; the 95 % t interval over our seeds is in literature.csv and, in "
        "brackets, in literature.md, and takes the published number as exact.",
        "Minutes are each on their own hardware and give no speed-up.",
        "Differs: settings of the published run that are not ours, or that its source does not state, by letter below.",
    ]


def _lines(match: Match, counted: str) -> Iterator[dict]:
    """Ours and theirs for each attack, then for each cost that the source states.

    counted: which runs of ours, "all" but diverged ones or those "not collapsed", of which no line is made where that
    leaves all or none.
    """
    ours, first = match.ours[match.ours["status"] != "diverged"], match.rows.iloc[0]
    if counted == "not collapsed":
        collapsed = ours["status"] == "collapsed"
        ours = ours[~collapsed & collapsed.any()]
    trained = ours.drop_duplicates(RUN)
    common = {"source": first["source"], "published_method": first["method"], "published_rule": first["steps_rule"]}
    common |= {"counted": counted, "hardware": "; ".join(sorted(set(trained["hardware"])))}
    common |= {"published_hardware": first["hardware"]}
    for row in match.rows.itertuples():
        values = 100 * ours.loc[ours["attack"] == row.attack, "accuracy"].dropna()
        if len(values):
            published = row.accuracy_percent
            low, high = paired_interval(values - published)
            points = {"difference": values.mean() - published, "difference_low": low, "difference_high": high}
            yield {"quantity": row.attack, **common, **_ours(values), "published": published, **points}
    for cost, (column, factor) in COSTS.items():
        if len(trained) and not math.isnan(first[cost]):
            none = dict.fromkeys(("difference", "difference_low", "difference_high"), math.nan)
            costing = timed(trained) if cost == "minutes" else trained
            yield {"quantity": cost, **common, **_ours(costing[column] * factor), "published": first[cost], **none}


def _ours(values: pd.Series) -> dict:
    mean, std, n = summarize(values)
    return {"n": n, "ours_mean": mean, "ours_std": std}


def _of_quantity(suite: Suite, match: Match, line: dict) -> list[str]:
    """What differs in a line's own number: the published hardware, or our use of the attack."""
    if line["quantity"] in COSTS:
        busy = [f"all of ours timed beside other work ({MARK})"] if (match.ours["disturbed"] != "").all() else []
        return [f"hardware {line['published_hardware']}", *busy] if line["quantity"] == "minutes" else []
    settings = next(a for a in suite.resolved["evaluation"]["attacks"] if a["label"] == line["quantity"])
    images = match.ours.loc[match.ours["attack"] == line["quantity"], "images"].max()
    all_images = suite.dataset(match.identity.dataset).test_images
    found = [f"our {line['quantity']} on {images} of {all_images} test images"] if images < all_images else []
    if line["quantity"].startswith(("pgd-", "margin-")):
        if settings["restarts"] > 1:
            found.append(f"our {line['quantity']} has {settings['restarts']} restarts")
        if not math.isclose(settings["step_size"], suite.threat.eps / 4):
            found.append(f"our {line['quantity']} has steps of {settings['step_size'] / suite.threat.eps:g} eps")
    return found


def _cells(suite: Suite, line: dict, marks: str) -> dict[str, Cell]:
    """What is shown of a line of the CSV."""
    variant = line["variant"] + (", not collapsed" if line["counted"] == "not collapsed" else "")
    names = words({"dataset": line["dataset"], "variant": variant, "quantity": line["quantity"]})
    ours = Summary(line["ours_mean"], line["ours_std"], line["n"])
    cost, low, high = line["quantity"] in COSTS, line["difference_low"], line["difference_high"]
    interval = "" if math.isnan(low) else f"[{signed(low, 1)}, {signed(high, 1)}]"
    return {
        **names,
        "ours": mean_of(ours, 1, len(suite.seeds)),
        "published": Cell(f"{line['published']:g}" if cost else f"{line['published']:.2f}", line["published"]),
        "difference": Cell(NOTHING if cost else signed(line["difference"], 1), line["difference"], interval),
        **words({"source": line["source"], "differs": marks}),
    }


def _letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    rest, last = divmod(index, len(ascii_lowercase))
    return (_letter(rest - 1) if rest else "") + ascii_lowercase[last]
