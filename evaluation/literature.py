"""Our numbers beside published ones for the same method, data set, network, ball and attack: a table and a plot."""

import dataclasses
import math
from collections.abc import Iterator
from string import ascii_lowercase

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.captions import (
    NOTHING,
    RUN,
    SPREAD,
    describe_protocol,
    describe_runs,
    describe_sources,
    format_eps,
    headline_attack,
)
from evaluation.front import spelled
from evaluation.published import Match, differences, matches, read_published
from evaluation.statistics import Summary, paired_interval, summarize
from evaluation.style import CROSS, INK, PlotText, key, styles
from evaluation.timing import MARK, left_out, timed
from evaluation.typeset import Table, make_table, plus_minus, signed
from experiment.data import DATASETS

COSTS = {"passes": ("data_passes", 1.0), "minutes": ("seconds", 1 / 60)}  # column of the runs frame, and its factor
DATA = ["dataset", "variant", "base", "method", "rule", "quantity", "source", "published_method", "published_rule"]
DATA += ["counted", "hardware", "published_hardware", "n", "ours_mean", "ours_std", "published", "difference"]
DATA += ["difference_low", "difference_high", "differs"]
GREY = "#6e6e6e"
PUBLISHED_MARK = {"ls": "", "marker": "o", "mfc": "white", "mec": GREY, "mew": 1.4, "ms": 7, "gid": "published"}
NONE = "No published number that we know of is of a method, data set, network, ball and attack of this suite."


def literature(resolved: dict, runs: pd.DataFrame) -> Table:
    """A line for every attack and cost that a variant and a published run of the same have in common.

    resolved, runs: as for `evaluation.tables.build`. Raises UserError where published.csv cannot be used.
    """
    data, shown, letters, titles, matched = [], [], {}, {}, set()
    for match in matches(resolved, runs, *read_published()):
        matched.add((match.identity["dataset"], match.identity["variant"]))
        differ = differences(resolved, match)
        for line in [*_lines(match, "all"), *_lines(match, "not collapsed")]:
            phrases = [*differ, *_of_quantity(resolved, match, line)]
            data.append({**match.identity, **line, "differs": "; ".join(phrases)})
            marks = sorted(letters.setdefault(phrase, len(letters)) for phrase in phrases)
            shown.append(_cells(resolved, data[-1], ", ".join(map(_letter, marks))))
            seeds = match.source["seeds"]
            titles[line["source"]] = f"{match.source['title']} {match.source['url']}, {seeds} seed{'s' * (seeds > 1)}."
    if not data:
        return dataclasses.replace(make_table("literature", [NONE], [], [], []), data=pd.DataFrame(columns=DATA))
    notes = [f"{_letter(index)}: {phrase}." for phrase, index in letters.items()]
    notes += [f"{source}: {title}" for source, title in titles.items()]
    return make_table("literature", _caption(resolved, runs), notes + _notes(resolved, runs, matched), data, shown)


def _notes(resolved: dict, runs: pd.DataFrame, matched: set[tuple[str, str]]) -> list[str]:
    """What is to be said of ours: variants without a counterpart, runs that failed, records of different sources."""
    notes = []
    for dataset in resolved["datasets"]:
        rest = [v["label"] for v in resolved["variants"] if (dataset, v["label"]) not in matched]
        notes += [f"Without a published counterpart on {dataset}: {', '.join(rest)}."] if rest else []
    used = runs[[pair in matched for pair in zip(runs["dataset"], runs["variant"], strict=True)]]
    for status, where in (("collapsed", "left out of the lines that say so"), ("diverged", "in no mean")):
        names = describe_runs(used, status)
        notes += [f"Ours that {status}, {where}: {names}."] if names else []
    return notes + left_out(used) + describe_sources(used)


def _caption(resolved: dict, runs: pd.DataFrame) -> list[str]:
    return [
        "Ours beside published numbers for the same method, data set, network, ball and attack; accuracy in % on test "
        "images.",
        SPREAD,
        describe_protocol(resolved, runs),
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


def _of_quantity(resolved: dict, match: Match, line: dict) -> list[str]:
    """What differs in a line's own number: the published hardware, or our use of the attack."""
    if line["quantity"] in COSTS:
        busy = [f"all of ours timed beside other work ({MARK})"] if (match.ours["disturbed"] != "").all() else []
        return [f"hardware {line['published_hardware']}", *busy] if line["quantity"] == "minutes" else []
    settings = next(a for a in resolved["evaluation"]["attacks"] if a["name"] == line["quantity"])
    images = match.ours.loc[match.ours["attack"] == line["quantity"], "images"].max()
    all_images = DATASETS[match.identity["dataset"]].test_images
    found = [f"our {line['quantity']} on {images} of {all_images} test images"] if images < all_images else []
    if line["quantity"].startswith(("pgd-", "margin-")):
        if settings["restarts"] > 1:
            found.append(f"our {line['quantity']} has {settings['restarts']} restarts")
        if not math.isclose(settings["step_size"], resolved["threat"]["eps"] / 4):
            found.append(
                f"our {line['quantity']} has steps of {settings['step_size'] / resolved['threat']['eps']:g} eps"
            )
    return found


def _cells(resolved: dict, line: dict, marks: str) -> dict[str, str]:
    """What is shown of a line of the CSV."""
    cost = line["quantity"] in COSTS
    difference = NOTHING if cost else signed(line["difference"], 1)
    if not math.isnan(line["difference_low"]):
        difference += f" [{signed(line['difference_low'], 1)}, {signed(line['difference_high'], 1)}]"
    return {
        "dataset": line["dataset"],
        "variant": line["variant"] + (", not collapsed" if line["counted"] == "not collapsed" else ""),
        "quantity": line["quantity"],
        "ours": plus_minus(Summary(line["ours_mean"], line["ours_std"], line["n"]), 1, len(resolved["seeds"])),
        "published": f"{line['published']:g}" if cost else f"{line['published']:.2f}",
        "difference": difference,
        "source": line["source"],
        "differs": marks,
    }


def _letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    rest, last = divmod(index, len(ascii_lowercase))
    return (_letter(rest - 1) if rest else "") + ascii_lowercase[last]


@dataclasses.dataclass(frozen=True)
class Group:
    """A variant's block of the plot: our runs, with `percent`, and published values by source."""

    label: str
    ours: pd.DataFrame
    published: list[tuple[str, float]]

    @property
    def healthy(self) -> pd.Series:
        """Our accuracies in %, without those of runs that collapsed."""
        return self.ours.loc[self.ours["status"] == "ok", "percent"]


def _groups(resolved: dict, runs: pd.DataFrame) -> list[Group]:
    """The blocks of one data set's plot, in the suite's order."""
    attack, groups = headline_attack(resolved), {}
    for match in matches(resolved, runs, *read_published()):
        ours = match.ours[(match.ours["attack"] == attack) & match.ours["accuracy"].notna()]
        for row in match.rows[match.rows["attack"] == attack].itertuples() if len(ours) else ():
            label = match.identity["variant"]
            group = groups.setdefault(label, Group(label, ours.assign(percent=100 * ours["accuracy"]), []))
            group.published.append((row.source, row.accuracy_percent))
    return list(groups.values())


def literature_figure(resolved: dict, runs: pd.DataFrame) -> Figure | None:
    """Accuracy under the headline attack, a block for each variant: ours filled, below it each published one hollow.

    runs: the runs frame's rows of one data set. None where none of its variants has a published counterpart. Raises
    UserError where published.csv cannot be used.
    """
    groups = _groups(resolved, runs)
    if not groups:
        return None
    lines = sum(1 + len(group.published) for group in groups)
    figure = Figure(figsize=(8.5, 1.6 + 0.23 * lines + 0.15 * len(groups)), layout="constrained")
    axes, y, ticks, numbers, heads = figure.subplots(), 0.0, {}, {}, set()
    axes.set_xlim(*_limits(groups))
    for group in groups:
        heads.add(y)
        ticks[y], numbers[y] = group.label, _mean(group)
        _draw_ours(axes, group, styles(resolved)[group.label].colour, y)
        for source, percent in group.published:
            y += 1
            ticks[y], numbers[y] = source, f"{percent:.2f}"
            axes.plot(percent, y, **PUBLISHED_MARK)
        y += 1.6
        axes.axhline(y - 0.8, color="#e6e6e6", lw=0.7)
    right = axes.twinx()
    right.spines["right"].set_visible(False)
    for side, texts in ((axes, ticks), (right, numbers)):
        side.set_ylim(y - 0.8, -0.8)
        side.set_yticks(list(texts), list(texts.values()))
        side.tick_params(axis="y", length=0, pad=6)
        side.grid(axis="y", visible=False)
        for place, text in zip(texts, side.get_yticklabels(), strict=True):
            text.set(**({"weight": "bold"} if place in heads else {"color": GREY, "size": 9}))
    attack = spelled(headline_attack(resolved))
    axes.set_xlabel(f"accuracy under {attack} (%)")
    dataset, eps = runs["dataset"].iloc[0], format_eps(resolved["threat"]["eps"])
    title = f"{dataset}, {resolved['network']['name']}, eps = {eps}: ours and published accuracy under {attack}"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    _key(figure, groups)
    return figure


def _limits(groups: list[Group]) -> tuple[float, float]:
    """What the axis shows: every value but those of collapsed runs, which would squeeze all others into a corner."""
    values = [percent for group in groups for percent in group.healthy]
    values += [percent for group in groups for _, percent in group.published]
    margin = max(1.0, 0.12 * (max(values) - min(values)))
    return min(values) - margin, max(values) + margin


def _draw_ours(axes: Axes, group: Group, colour: str, y: float) -> None:
    """One line of ours: a mark a seed, mean and interval; a collapsed one is crossed, at the edge if it is beyond."""
    healthy, collapsed = group.healthy, group.ours.loc[group.ours["status"] == "collapsed", "percent"]
    low, high = axes.get_xlim()
    inset = 0.01 * (high - low)
    interval = paired_interval(healthy)
    axes.plot(interval, [y, y], color=colour, lw=1.4, zorder=2)
    if interval[0] < low:
        axes.plot(low + inset, y, "<", color=colour, ms=6, zorder=2)
    if interval[1] > high:
        axes.plot(high - inset, y, ">", color=colour, ms=6, zorder=2)
    axes.plot(healthy, [y] * len(healthy), "|", color=colour, ms=12, mew=1.2, zorder=2)
    if len(healthy):
        axes.plot(healthy.mean(), y, "o", mfc=colour, mec="white", mew=0.8, ms=8, zorder=4, gid="ours")
    axes.plot(collapsed.clip(lower=low + inset), [y] * len(collapsed), ls="", ms=8, zorder=7, **CROSS)
    if (collapsed < low).any():
        text = "← " + ", ".join(f"{percent:.1f}" for percent in collapsed[collapsed < low])
        look = {"va": "center", "fontsize": 9, "color": INK, "bbox": {"fc": "white", "ec": "none", "pad": 1}}
        axes.annotate(text, (low + inset, y), xytext=(8, 0), textcoords="offset points", zorder=6, **look)


def _mean(group: Group) -> str:
    """ "44.5 ± 0.8" of the runs that did not collapse."""
    return plus_minus(summarize(group.healthy), 1, len(group.healthy))


def _key(figure: Figure, groups: list[Group]) -> None:
    handles = [
        Line2D([], [], ls="", marker="o", mfc=INK, mec="white", ms=8, label="ours, mean of the seeds"),
        Line2D([], [], ls="", marker="|", color=INK, ms=12, mew=1.2, label="a seed"),
        Line2D([], [], color=INK, lw=1.4, label="95 % interval of our mean"),
        Line2D([], [], label="published", **PUBLISHED_MARK),
    ]
    if any((group.ours["status"] == "collapsed").any() for group in groups):
        handles.append(Line2D([], [], ls="", ms=8, label="collapsed, in no mean here", **CROSS))
    key(figure, handles, "", 3)


def literature_text(resolved: dict, runs: pd.DataFrame) -> PlotText | None:
    """What is said of `literature_figure` of the same rows; None where there is none."""
    groups, attack = _groups(resolved, runs), spelled(headline_attack(resolved))
    if not groups:
        return None
    said = [
        f"{group.label}: ours {_said(group)}, "
        + ", ".join(f"{source} {percent:.2f} %" for source, percent in group.published)
        for group in groups
    ]
    caption = (
        f"Accuracy under {attack}, ours (filled) and published (hollow, grey), for the same method, data set, network "
        "and ball. The table names what differs in training, and has costs."
    )
    return PlotText("Ours and published", caption, f"Accuracy under {attack}. {'; '.join(said)}.")


def _said(group: Group) -> str:
    collapsed = int((group.ours["status"] == "collapsed").sum())
    mean = f"{group.healthy.mean():.1f} %" if len(group.healthy) else "none that did not collapse"
    return mean + (f" ({collapsed} of {len(group.ours)} collapsed)" if collapsed else "")
