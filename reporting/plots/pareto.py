"""Accuracy against cost: every run, the Pareto front of the variants' means, and what M+ moves."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.pareto import DOUBTS, comparable, standings
from analysis.results import headline_attack
from analysis.timing import timed
from experiment.suite import Suite
from reporting.captions import describe_protocol, describe_runs, left_out, spelled
from reporting.formatting import signed
from reporting.plots.label_placement import Label, place_labels
from reporting.plots.style import CROSS, INK, PlotText, Style, dark, faded, key, plain_log, settle, styles

COSTS = {  # what the axis says
    "seconds": "training seconds",
    "compute": "compute (ordinary epochs)",
    "passes": "passes (sweeps over the training split)",
}
MEAN, SEED = 8.5, 3.8  # diameters of marks in points
WIDER = 5.0  # points by which a mark grows to be seen around another at the same place
SAME_PLACE = 0.7  # of a mark's diameter: nearer centres than this, and one mark would hide the other
SHORTEST_ARROW = 16  # points
EQUAL = 1.45  # by which a dot that stands for several seeds is larger
MEANS, SEEDS = 4, 5  # drawing order
MOST_NAMED, BEST_NAMED = 24, 12  # variants that are all named in the picture; of more, how many beside the front
LEAST_SPAN = 2  # points of accuracy that an axis shows at least
DOMINATED = "#f4f4f4"
UNNAMED = f"Of so many variants those on the front and the {BEST_NAMED} most accurate are named; tables have all."


@dataclass(frozen=True)
class Mark:
    """A mark to be drawn: a point in data coordinates, its look, its diameter in points."""

    x: float
    y: float
    marker: str
    face: str | tuple
    edge: str | tuple
    size: float


def pareto_figure(suite: Suite, runs: pd.DataFrame, cost: str) -> Figure | None:
    """Accuracy under the headline attack against `cost`, of one data set's runs; None where nothing was attacked.

    Seconds of different hardware get panels of their own.
    """
    rows = runs[runs["attack"] == headline_attack(suite)]
    rows = rows.assign(percent=100 * rows["accuracy"])
    if rows["percent"].isna().all():
        return None
    floor = _floor(rows)
    there = [(hardware, part) for hardware, part in comparable(rows, cost) if part["percent"].notna().any()]
    figure = Figure(figsize=(max(8.5, 6.5 * len(there)), 6), layout="constrained")
    row = figure.subplots(1, len(there), sharey=True, squeeze=False)[0]
    for axes, (hardware, part) in zip(row, there, strict=True):
        axes.set_xlabel(COSTS[cost] + (f" on {hardware}" if hardware else ""))
        _frame(axes, part, cost, floor)
    row[0].set_ylabel(f"accuracy under {spelled(headline_attack(suite))} (%)")
    low, high = row[0].get_ylim()
    if high - low < LEAST_SPAN:
        low = max(0, (low + high - LEAST_SPAN) / 2)
        row[0].set_ylim(low, low + LEAST_SPAN)
    if (rows["percent"] < floor).any():
        row[0].set_ylim(bottom=floor)
    images = " or ".join(map(str, sorted(rows["images"][rows["percent"].notna()].unique())))
    title = f"{rows['dataset'].iloc[0]}: accuracy under {spelled(headline_attack(suite))} ({images} test images)"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    stands = [standings(suite, part, cost) for _, part in there]
    _key(figure, suite, rows, pd.concat(stands), floor)
    settle(figure)
    for axes, (_, part), stand in zip(row, there, stands, strict=True):
        _draw(axes, suite, timed(part) if cost == "seconds" else part, stand, cost, floor)
    return figure


def pareto_text(suite: Suite, runs: pd.DataFrame, cost: str) -> PlotText | None:
    """What is said of `pareto_figure` of the same rows; None where there is no such figure."""
    attack = headline_attack(suite)
    rows = runs[runs["attack"] == attack]
    seen = rows[rows["accuracy"].notna()]
    if seen.empty:
        return None
    dataset, images = rows["dataset"].iloc[0], " or ".join(map(str, sorted(seen["images"].unique())))
    below = f"Accuracy under {spelled(attack)} on {images} test images"
    several = max(part.groupby("variant").size().max() for _, part in comparable(seen, cost)) > 1
    marks = "Large marks: means over seeds; dots: seeds, joined to their mean" if several else "A mark: one run"
    said = [
        f"{below} against {COSTS[cost]}, {dataset}. {marks}; open: with M+; arrows: from a base to its M+. "
        "Marks at one place are drawn around one another; a larger dot is several equal seeds. Line: the Pareto front "
        "of the means, with what it dominates pale; a variant with a collapsed, diverged or suspect run is not on it.",
        *([UNNAMED] if len(suite.variants) > MOST_NAMED else []),
        *([] if cost != "seconds" else ["Seconds of different hardware are not compared.", *left_out(rows)]),
        describe_protocol(suite, runs, [dataset]),
    ]
    alts = [_alt(suite, part, cost, hardware) for hardware, part in comparable(rows, cost)]
    title = f"Accuracy under {spelled(attack)} against {cost}: {dataset}"
    return PlotText(title, " ".join(said), f"{below} against {COSTS[cost]}. {' '.join(alts)}")


def _alt(suite: Suite, rows: pd.DataFrame, cost: str, hardware: str) -> str:
    """What one panel shows, in sentences: the front, what it dominates, where arrows lead, what failed."""
    stand = standings(suite, rows, cost)
    unit = {"compute": "epochs of compute"}.get(cost, cost)
    where = {
        label: f"{label} ({place.percent:.1f} % at {_number(place.cost)} {unit})" for label, place in stand.iterrows()
    }
    known = stand[stand["percent"].notna()].sort_values("cost")
    front = [where[label] for label in known.index[known["front"]]]
    rest = [where[label] for label in known.index[~known["front"]]]
    pairs = [(variant.base, variant.label) for variant in suite.variants]
    moves = [
        f"{base} to {label} {_times(known['cost'][base] / known['cost'][label])} and "
        f"{signed(known['percent'][label] - known['percent'][base], 1)} points"
        for base, label in pairs
        if {base, label} <= set(known.index[known["disturbed"] == 0])
    ]
    doubts = [f"{label} {_doubts(place)}" for label, place in stand.iterrows() if _doubts(place)]
    parts = {"On the Pareto front": front, "Not on it": rest, "With M+": moves, "Failed or in doubt": doubts}
    said = " ".join(f"{name}: {'; '.join(found)}." for name, found in parts.items() if found)
    return f"On {hardware}. {said}" if hardware else said


def _doubts(place: pd.Series) -> str:
    """ "2 of 5 collapsed, 1 of 5 diverged"; "" for a variant all of whose runs are to be believed."""
    return ", ".join(f"{place[doubt]} of {place['runs']} {doubt}" for doubt in DOUBTS if place[doubt])


def _times(ratio: float) -> str:
    if 0.95 < ratio < 1.05:
        return "at about the same cost"
    return f"{ratio:.1f} times cheaper" if ratio > 1 else f"{1 / ratio:.1f} times dearer"


def _number(cost: float) -> str:
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.1f}" if cost >= 10 else f"{cost:.2f}"


def _floor(rows: pd.DataFrame) -> float:
    """Where the axis ends below: runs that collapsed to nothing would squeeze all others into a corner."""
    healthy = rows.loc[(rows["status"] == "ok") & rows["percent"].notna(), "percent"]
    return healthy.min() - max(3.0, 0.3 * (healthy.max() - healthy.min())) if len(healthy) else -np.inf


def _frame(axes: Axes, rows: pd.DataFrame, cost: str, floor: float) -> None:
    """Scale and limits that hold every run of the panel."""
    seen = rows[rows["percent"].notna()]
    if seen[cost].max() > 10 * seen[cost].min():
        axes.set_xscale("log")
        plain_log(axes.xaxis)
    axes.update_datalim(np.column_stack([seen[cost].to_numpy(float), seen["percent"].clip(lower=floor)]))
    axes.margins(0.08)
    axes.autoscale_view()


def _key(figure: Figure, suite: Suite, rows: pd.DataFrame, stands: pd.DataFrame, floor: float) -> None:
    """What the marks mean, of those that are there; and which runs diverged."""
    looks, healthy = styles(suite), stands[stands["percent"].notna()]
    mark, handles = {"ls": "", "mec": INK}, []
    if len(healthy):
        what = "a run" if (healthy["runs"] == 1).all() else "mean of the seeds"
        handles.append(Line2D([], [], marker="o", ms=MEAN, mfc=INK, label=what, **mark))
    if any(looks[label].mplus for label in healthy.index):
        text = "the same with M+ (arrow: from its base)"
        handles.append(Line2D([], [], marker="D", ms=MEAN - 1.5, mfc="white", label=text, mew=1.4, **mark))
    if (stands["runs"] > 1).any():
        handles.append(Line2D([], [], marker="o", ms=SEED, mfc=INK, label="a seed (larger: equal seeds)", **mark))
    if stands["front"].any():
        handles.append(Line2D([], [], color=INK, lw=1.6, label="Pareto front (pale: dominated)"))
    if (rows["status"] == "collapsed").any():
        below = " (↓: below the axis)" if (rows["percent"] < floor).any() else ""
        handles.append(Line2D([], [], ls="", ms=7, label=f"collapsed, in no mean{below}", **CROSS))
    diverged = describe_runs(rows, "diverged")
    key(figure, handles, f"Diverged, in no mean: {diverged}" if diverged else "", 2 if len(handles) > 3 else 3)


def _draw(axes: Axes, suite: Suite, rows: pd.DataFrame, stand: pd.DataFrame, cost: str, floor: float) -> None:
    """Front, arrows, marks and labels of one panel, whose limits are final. Below `floor` is drawn on it."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    looks, named = styles(suite), _named(stand)
    rows = rows[rows["percent"].notna()]
    rows = rows.assign(shown=rows["percent"].clip(lower=floor))
    obstacles = [rows[[cost, "shown"]].to_numpy(float), _front(axes, stand)]
    obstacles += _arrows(axes, suite, stand, looks)
    means, seeds, labels = [], [], []
    for label, place in stand.sort_values("front", ascending=False, kind="stable").iterrows():  # the first is on top
        style, marks = looks[label], rows[rows["variant"] == label]
        colour = style.colour if place["front"] else faded(style.colour)
        look = (style.marker, "white" if style.mplus else colour, colour)
        healthy = marks[marks["status"] == "ok"]
        spokes = healthy[[cost, "shown"]].to_numpy(float)
        mean = place[["cost", "percent"]].to_numpy(float)
        joined = np.stack([spokes, np.broadcast_to(mean, spokes.shape), np.full(spokes.shape, np.nan)], axis=1)
        axes.plot(*joined.reshape(-1, 2).T, color=colour, lw=0.8, alpha=0.6, zorder=2)
        obstacles += [_along(seed, mean, axes) for seed in spokes]
        if len(healthy):
            means.append(Mark(place["cost"], place["percent"], *look, MEAN - 1.5 * (style.marker == "D")))
        alone = marks if len(healthy) != 1 else marks[marks["status"] != "ok"]  # a single seed is its mean
        equal = alone.groupby([cost, "shown"]).size()
        open_look = (style.marker, "none", colour) if style.mplus else look
        seeds += [Mark(x, y, *open_look, SEED * (EQUAL if n > 1 else 1)) for (x, y), n in equal.items()]
        if label in named:
            labels += _labels(label, place, marks, cost, floor, dark(style.colour))
    _nested(axes, means, MEANS)
    _nested(axes, seeds, SEEDS)
    collapsed = rows[rows["status"] == "collapsed"]
    axes.plot(collapsed[cost], collapsed["shown"], ls="", ms=8, zorder=6, clip_on=False, **CROSS)
    obstacles.append(np.array([[mark.x, mark.y] for mark in means]).reshape(-1, 2))
    place_labels(axes, labels, np.concatenate(obstacles))


def _named(stand: pd.DataFrame) -> set[str]:
    """The variants whose names are in the picture; of many only the front and the most accurate, which can be read."""
    if len(stand) <= MOST_NAMED:
        return set(stand.index)
    return {*stand.index[stand["front"]], *stand["percent"].nlargest(BEST_NAMED).index}


def _front(axes: Axes, stand: pd.DataFrame) -> np.ndarray:
    """The staircase through the front, the dominated side tinted; returns points along it."""
    front = stand[stand["front"]].drop_duplicates(["cost", "percent"]).sort_values("cost")
    if front.empty:
        return np.empty((0, 2))
    x = [*front["cost"], axes.get_xlim()[1]]
    y = [*front["percent"], front["percent"].iloc[-1]]
    axes.fill_between(x, y, axes.get_ylim()[0], step="post", color=DOMINATED, lw=0, zorder=0)
    axes.plot(x, y, drawstyle="steps-post", color=INK, lw=1.4, zorder=1.5, gid="front")
    corners = np.column_stack([np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]])
    return np.concatenate([_along(a, b, axes) for a, b in zip(corners[:-1], corners[1:], strict=True)])


def _arrows(axes: Axes, suite: Suite, stand: pd.DataFrame, looks: dict[str, Style]) -> list[np.ndarray]:
    """An arrow from each base's mean to its variant's, where they are far enough apart; returns points along them."""
    drawn = []
    for variant in suite.variants:
        ends = stand.reindex([variant.base, variant.label])[["cost", "percent"]].to_numpy(float)
        if np.isnan(ends).any():
            continue
        length = np.linalg.norm(np.diff(axes.transData.transform(ends), axis=0)) * 72 / axes.figure.dpi
        if length < SHORTEST_ARROW:
            continue
        colour = looks[variant.label].colour
        colour = colour if stand["front"][variant.label] else faded(colour)
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "shrinkA": 5, "shrinkB": 6}
        axes.annotate("", ends[1], xytext=ends[0], arrowprops=arrow, zorder=3)
        drawn.append(_along(*ends, axes))
    return drawn


def _along(start: np.ndarray, end: np.ndarray, axes: Axes) -> np.ndarray:
    """(30, 2) points along a line as it is seen, in data coordinates."""
    pixels = axes.transData.transform([start, end])
    return axes.transData.inverted().transform(pixels[0] + np.linspace(0, 1, 30)[:, None] * (pixels[1] - pixels[0]))


def _labels(label: str, place: pd.Series, marks: pd.DataFrame, cost: str, floor: float, colour: tuple) -> list[Label]:
    """The variant's name beside its mean (or what it has), and its accuracies below the axis beside those."""
    doubts = _doubts(place)
    text = f"{label} ({doubts})" if doubts else label
    low = marks[marks["percent"] < floor]
    found = []
    if len(marks) > len(low):
        point = place[["cost", "percent"]] if place["percent"] == place["percent"] else marks[[cost, "shown"]].mean()
        found.append(Label(text, *map(float, point), colour, "bold" if place["front"] else "normal"))
    if len(low):
        name = text if not found else label
        values = ", ".join(f"{percent:.1f}" for percent in low["percent"])
        found.append(Label(f"↓ {name} {values} %", float(low[cost].mean()), floor, colour))
    return found


def _nested(axes: Axes, marks: list[Mark], zorder: float) -> None:
    """Draw the marks; those at the same place around one another, wide ones behind, so that none hides another."""
    if not marks:
        return
    points = axes.transData.transform([(mark.x, mark.y) for mark in marks]) * 72 / axes.figure.dpi
    rings = np.zeros(len(marks), int)
    for i, mark in enumerate(marks):
        near = np.linalg.norm(points[:i] - points[i], axis=1) < SAME_PLACE * mark.size
        taken = set(rings[:i][near])
        rings[i] = next(ring for ring in range(len(marks)) if ring not in taken)
    small = zorder == SEEDS
    for i in sorted(range(len(marks)), key=lambda i: -rings[i]):
        mark = marks[i]
        size, edge = mark.size + (0.5 if small else 1) * WIDER * rings[i], 0.8 if small else 1.4
        look = {"mfc": mark.face, "mec": "white" if mark.face == mark.edge else mark.edge, "mew": edge}
        axes.plot(mark.x, mark.y, mark.marker, ms=size, zorder=zorder, clip_on=False, **look)
