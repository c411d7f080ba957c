"""Plots of a suite from the frames of `evaluation.collate`: accuracy against cost, and training epoch by epoch."""

import io
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from evaluation.captions import attack_names, describe_runs, is_mplus
from evaluation.labels import Label, place_labels

FORMATS = {"svg": {"Date": None}, "png": {"Software": None}}  # metadata that would change from one day to the next
RC = {
    "svg.hashsalt": "efficient-adversarial-training",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.dpi": 160,
}
# Okabe and Ito's colours, told apart with any common colour vision; without their yellow, too pale for a line.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
INK = "#222222"
COSTS = {"accuracy_vs_seconds": "seconds", "accuracy_vs_passes": "data_passes"}
EPOCHS = {
    "steps_per_epoch": ("steps", "adversarial steps"),
    "magnitude_per_epoch": ("magnitude", "gradient magnitude"),
    "validation_pgd_per_epoch": ("validation_pgd_accuracy", "PGD accuracy on the validation split (%)"),
}


@dataclass(frozen=True)
class Style:
    """How a variant looks: the method is the colour; M+ is an open marker and a broken line."""

    colour: str
    marker: str
    line: str | tuple
    mplus: bool

    @property
    def face(self) -> str:
        return "white" if self.mplus else self.colour


def draw(resolved: dict, runs: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, bytes]:
    """Every plot that the frames hold something for, as SVG and PNG, by file name.

    runs, epochs: as in `evaluation.collate.Collation`. The same frames give the same bytes.
    """
    images = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        for dataset in resolved["datasets"]:
            ours = runs[runs["dataset"] == dataset]
            seen = epochs[epochs["dataset"] == dataset] if len(epochs) else epochs
            for name, figure in figures(resolved, ours, seen):
                for extension, metadata in FORMATS.items():
                    buffer = io.BytesIO()
                    figure.savefig(buffer, format=extension, metadata=metadata)
                    images[_file_name(resolved, name, dataset, extension)] = buffer.getvalue()
    return images


def file_names(resolved: dict) -> list[str]:
    """Every file that `draw` may make for this suite."""
    return [
        _file_name(resolved, name, dataset, extension)
        for name in [*COSTS, *EPOCHS]
        for dataset in resolved["datasets"]
        for extension in FORMATS
    ]


def styles(resolved: dict) -> dict[str, Style]:
    """A style for each variant's label, told apart within its method by marker and line."""
    methods = list(dict.fromkeys(variant["method"] for variant in resolved["variants"]))
    looks = {
        False: [("o", "-"), ("s", (0, (1, 1))), ("v", "-."), ("P", (0, (5, 1, 1, 1, 1, 1)))],
        True: [("D", (0, (4, 2))), ("^", (0, (6, 1, 1, 1))), ("<", (0, (2, 1))), (">", (0, (8, 3)))],
    }
    used: Counter = Counter()
    result = {}
    for variant in resolved["variants"]:
        kind = (variant["method"], is_mplus(variant))
        marker, line = looks[kind[1]][used[kind] % len(looks[kind[1]])]
        used[kind] += 1
        colour = COLOURS[methods.index(variant["method"]) % len(COLOURS)]
        result[variant["label"]] = Style(colour, marker, line, kind[1])
    return result


def headline_attack(resolved: dict) -> str:
    """The attack that the accuracy plots show: autoattack, or else the suite's last."""
    names = attack_names(resolved)
    return "autoattack" if "autoattack" in names else names[-1]


def _file_name(resolved: dict, plot: str, dataset: str, extension: str) -> str:
    return f"{plot}.{extension}" if len(resolved["datasets"]) == 1 else f"{plot}-{dataset}.{extension}"


def figures(resolved: dict, runs: pd.DataFrame, epochs: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """The plots, by name, of the frames' rows of one data set; only those that they hold something for."""
    points = runs[(runs["attack"] == headline_attack(resolved)) & runs["accuracy"].notna()]
    if len(points):
        for name, cost in COSTS.items():
            yield name, _accuracy_figure(resolved, runs, points, cost)
    for name, (column, title) in EPOCHS.items():
        rows = epochs.dropna(subset=[column]) if len(epochs) else epochs
        if len(rows):
            yield name, _epoch_figure(resolved, runs, rows, column, title)


def _accuracy_figure(resolved: dict, runs: pd.DataFrame, points: pd.DataFrame, cost: str) -> Figure:
    """Accuracy under the headline attack against a cost; seconds of different hardware get panels of their own."""
    points = points.assign(percent=100 * points["accuracy"])
    floor = _floor(points)
    panels = list(points.groupby("hardware")) if cost == "seconds" else [("", points)]
    figure = Figure(figsize=(max(8.5, 6.5 * len(panels)), 6), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    content = []
    for axes, (hardware, rows) in zip(row, panels, strict=True):
        axes.set_xlabel(f"training seconds on {hardware}" if hardware else "passes (sweeps over the training split)")
        content.append(_scatter(axes, resolved, rows, cost, floor))
    images = " or ".join(map(str, sorted(points["images"].unique())))
    attack = headline_attack(resolved)
    row[0].set_ylabel(f"accuracy under {attack} (%)")
    figure.suptitle(f"{points['dataset'].iloc[0]}: accuracy under {attack} ({images} test images), one mark a seed")
    marks = {False: ("o", INK, "without M+"), True: ("D", "white", "with M+ (arrow: from the base's mean)")}
    seen = sorted({styles(resolved)[label].mplus for label in points["variant"]})
    looks = [marks[mplus] for mplus in seen]
    handles = [Line2D([], [], ls="", marker=m, mfc=face, mec=INK, ms=6, label=text) for m, face, text in looks]
    low = (points["percent"] < floor).any()
    if low:
        row[0].set_ylim(bottom=floor)
    _legend(figure, handles, runs, f"collapsed, in no mean{' (↓: below the axis)' if low else ''}")
    _settle(figure)
    for axes, (labels, drawn) in zip(row, content, strict=True):
        place_labels(axes, labels, drawn)
    return figure


def _floor(points: pd.DataFrame) -> float:
    """Where the axis ends below: runs that collapsed to nothing would squeeze all others into a corner."""
    healthy = points.loc[points["status"] == "ok", "percent"]
    return healthy.min() - max(3.0, 0.3 * (healthy.max() - healthy.min())) if len(healthy) else -np.inf


def _scatter(axes: Axes, resolved: dict, rows: pd.DataFrame, cost: str, floor: float) -> tuple[list[Label], np.ndarray]:
    """Marks and arrows of one panel; returns the labels still to be placed, and points of what is drawn.

    What lies below `floor` is drawn on it and labelled with its accuracy.
    """
    rows = rows.assign(shown=rows["percent"].clip(lower=floor))
    if rows[cost].max() > 10 * rows[cost].min():
        axes.set_xscale("log")
        _plain_log(axes.xaxis)
    drawn, means, labels = [rows[[cost, "shown"]].to_numpy(float)], {}, []
    for label, style in styles(resolved).items():
        marks = rows[rows["variant"] == label]
        healthy = marks[marks["status"] == "ok"]
        collapsed = marks[marks["status"] == "collapsed"]
        low = marks[marks["percent"] < floor]
        if len(healthy):
            means[label] = healthy[[cost, "shown"]].mean().to_numpy(float)
        if len(marks) > len(low):
            labels.append(Label(label, *means.get(label, marks[[cost, "shown"]].mean()), _dark(style.colour)))
        if len(low):
            text = f"↓ {label} {', '.join(f'{percent:.1f}' for percent in low['percent'])} %"
            labels.append(Label(text, low[cost].mean(), floor, _dark(style.colour)))
        look = {"marker": style.marker, "facecolor": style.face, "edgecolor": style.colour, "linewidth": 1.3}
        axes.scatter(marks[cost], marks["shown"], s=34, zorder=3, clip_on=False, **look)
        cross = {"marker": "x", "color": INK, "linewidth": 1.6}
        axes.scatter(collapsed[cost], collapsed["shown"], s=80, zorder=4, clip_on=False, **cross)
    for variant in resolved["variants"]:
        start, end = means.get(variant.get("base")), means.get(variant["label"])
        if start is not None and end is not None:
            arrow = {"arrowstyle": "-|>", "color": styles(resolved)[variant["label"]].colour, "lw": 1.2, "alpha": 0.8}
            axes.annotate("", end, xytext=start, arrowprops={**arrow, "shrinkA": 5, "shrinkB": 6}, zorder=2)
            drawn.append(_along(start, end, axes.get_xscale() == "log"))
    axes.margins(0.08)
    return labels, np.concatenate(drawn)


def _along(start: np.ndarray, end: np.ndarray, log: bool) -> np.ndarray:
    """(30, 2) points along an arrow as it is seen, in data coordinates."""
    share = np.linspace(0, 1, 30)[:, None]
    if not log:
        return start + share * (end - start)
    x = np.exp(np.log(start[0]) + share[:, 0] * np.log(end[0] / start[0]))
    return np.stack([x, start[1] + share[:, 0] * (end[1] - start[1])], axis=1)


def _epoch_figure(resolved: dict, runs: pd.DataFrame, epochs: pd.DataFrame, column: str, title: str) -> Figure:
    """A quantity epoch by epoch: a panel for each method, a thin line for each seed and a thick one for their mean."""
    there = set(epochs["variant"])
    panels: dict[str, list[str]] = {}
    for variant in resolved["variants"]:
        if variant["label"] in there:
            panels.setdefault(variant["method"], []).append(variant["label"])
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(max(6.5, 3.7 * columns), 1.2 + 2.6 * lines), layout="constrained")
    grid = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes, (method, variants) in zip(grid, panels.items(), strict=False):
        for label in variants:
            _seed_lines(axes, label, styles(resolved)[label], epochs[epochs["variant"] == label], runs, column)
        axes.set_title(method)
        axes.legend(loc="best")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[len(panels) - columns : len(panels)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("epoch (the first is 0)")
    grid[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    if column == "steps":
        grid[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supylabel(title, fontsize=10)
    figure.suptitle(f"{epochs['dataset'].iloc[0]}: {title} by method")
    widths = [(0.8, "one seed"), (2, "mean of the seeds that neither collapsed nor diverged")]
    handles = [Line2D([], [], color=INK, lw=width, label=text) for width, text in widths]
    _legend(figure, handles, runs[runs["variant"].isin(there)], "collapsed")
    _settle(figure)
    return figure


def _seed_lines(axes: Axes, label: str, style: Style, rows: pd.DataFrame, runs: pd.DataFrame, column: str) -> None:
    """The lines of one variant in one panel, with a cross where a run collapsed."""
    drawstyle = "steps-mid" if column == "steps" else "default"
    rows = rows.assign(value=rows[column] * (100 if column.endswith("accuracy") else 1))
    fate = runs[runs["variant"] == label].drop_duplicates("seed").set_index("seed")
    for seed, line in rows.groupby("seed"):
        axes.plot(
            line["epoch"], line["value"], ls=style.line, color=style.colour, lw=0.8, alpha=0.5, drawstyle=drawstyle
        )
        seen = line[line["epoch"] == fate.loc[seed, "status_epoch"]]
        if fate.loc[seed, "status"] == "collapsed":
            axes.plot(seen["epoch"], seen["value"], "x", color=INK, ms=8, mew=1.6, zorder=4)
    mean = rows[rows["seed"].map(fate["status"]) == "ok"].groupby("epoch")["value"].mean()
    axes.plot(mean.index, mean, ls=style.line, color=style.colour, lw=2, drawstyle=drawstyle, label=label)


def _legend(figure: Figure, handles: list[Line2D], runs: pd.DataFrame, collapsed: str) -> None:
    """The key to marks below the panels, and which of the `runs` diverged."""
    if (runs["status"] == "collapsed").any():
        handles = [*handles, Line2D([], [], ls="", marker="x", color=INK, ms=8, mew=1.6, label=collapsed)]
    diverged = describe_runs(runs, "diverged")
    note = textwrap.fill(f"Diverged, in no mean: {diverged}", 100) if diverged else None
    figure.legend(handles=handles, title=note, title_fontsize=9, loc="outside lower center", ncols=len(handles))


def _settle(figure: Figure) -> None:
    """Lay the figure out once and for all, so that labels placed in it stay where they are in every format."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")


def _plain_log(axis: Axis) -> None:
    """Ticks at 1, 2, 5, 10, ... written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _dark(colour: str) -> tuple[float, ...]:
    """The colour, dark enough for small text on white."""
    return tuple(0.65 * part for part in to_rgb(colour))
