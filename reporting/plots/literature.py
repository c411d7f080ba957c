"""The plot of our accuracies beside published ones."""

import dataclasses

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.published import matches, read_published
from analysis.results import headline_attack
from analysis.statistics import paired_interval, summarize
from experiment.suite import Suite
from reporting.captions import format_eps, spelled
from reporting.formatting import plus_minus
from reporting.plots.style import CROSS, INK, PlotText, key, styles

GREY = "#6e6e6e"
PUBLISHED_MARK = {"ls": "", "marker": "o", "mfc": "white", "mec": GREY, "mew": 1.4, "ms": 7, "gid": "published"}


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


def _groups(suite: Suite, runs: pd.DataFrame) -> list[Group]:
    """The blocks of one data set's plot, in the suite's order."""
    attack, groups = headline_attack(suite), {}
    for match in matches(suite, runs, *read_published()):
        ours = match.ours[(match.ours["attack"] == attack) & match.ours["accuracy"].notna()]
        for row in match.rows[match.rows["attack"] == attack].itertuples() if len(ours) else ():
            label = match.identity.variant
            group = groups.setdefault(label, Group(label, ours.assign(percent=100 * ours["accuracy"]), []))
            group.published.append((row.source, row.accuracy_percent))
    return list(groups.values())


def literature_figure(suite: Suite, runs: pd.DataFrame) -> Figure | None:
    """Accuracy under the headline attack, a block for each variant: ours filled, below it each published one hollow.

    runs: the runs frame's rows of one data set. None where none of its variants has a published counterpart. Raises
    UserError where published.csv cannot be used.
    """
    groups = _groups(suite, runs)
    if not groups:
        return None
    lines = sum(1 + len(group.published) for group in groups)
    figure = Figure(figsize=(8.5, 1.6 + 0.23 * lines + 0.15 * len(groups)), layout="constrained")
    axes, y, ticks, numbers, heads = figure.subplots(), 0.0, {}, {}, set()
    axes.set_xlim(*_limits(groups))
    for group in groups:
        heads.add(y)
        ticks[y], numbers[y] = group.label, _mean(group)
        _draw_ours(axes, group, styles(suite)[group.label].colour, y)
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
    attack = spelled(headline_attack(suite))
    axes.set_xlabel(f"accuracy under {attack} (%)")
    dataset, eps = runs["dataset"].iloc[0], format_eps(suite.threat.eps)
    title = f"{dataset}, {suite.network.name}, eps = {eps}: ours and published accuracy under {attack}"
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


def literature_text(suite: Suite, runs: pd.DataFrame) -> PlotText | None:
    """What is said of `literature_figure` of the same rows; None where there is none."""
    groups, attack = _groups(suite, runs), spelled(headline_attack(suite))
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
