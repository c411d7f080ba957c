"""What happened during training: small multiples over epochs that share their axes, a column a method or variant."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from experiment.suite import Suite
from reporting.captions import describe_protocol, describe_runs
from reporting.plots.style import CROSS, INK, PlotText, Style, key, plain_log, styles

MOST_COLUMNS = 6
MOST_POINTS = 2000  # epochs of all runs in one figure: beyond, lines are too many to be told apart, and files too big
PANEL, GAP = (1.85, 1.05), 0.14  # inches
MOST_EPOCHS_NAMED = 8
NOTE_LINE = 100  # characters
SET_BY_EPOCH = ("steps", "step_size", "learning_rate")
LOG_BEYOND = 15  # largest over smallest value
BASE = "#6b6b6b"  # without M+; each method's colour is left to what is compared with it


@dataclass(frozen=True)
class Row:
    """A quantity of epochs.csv, the factor that turns it into what is shown, and its name in a text and on the axis."""

    column: str
    factor: float
    name: str
    axis: str


@dataclass(frozen=True)
class Page:
    """One figure: its name, and the labels of the variants in each of its columns by the column's title."""

    name: str
    columns: dict[str, list[str]]


def quantities(suite: Suite) -> list[Row]:
    """The rows from top to bottom: what the steps rule did, what it looked at, what came of it."""
    return [
        Row("steps", 1, "steps", "steps"),
        Row("step_size", 1 / suite.threat.eps, "step size in units of eps", "step size\n(eps)"),
        Row("magnitude", 1, "gradient magnitude", "gradient\nmagnitude"),
        Row("validation_clean_accuracy", 100, "clean accuracy on the validation split", "validation\nclean (%)"),
        Row("validation_pgd_accuracy", 100, "PGD accuracy on the validation split", "validation\nPGD (%)"),
        Row("learning_rate", 1, "learning rate", "learning\nrate"),
    ]


def pages(suite: Suite) -> list[Page]:
    """The figures of one data set: one with a column a method; or, of a big suite, one a method, a column a variant."""
    methods: dict[str, list[str]] = {}
    for variant in suite.variants:
        methods.setdefault(variant.method, []).append(variant.label)
    points = len(suite.variants) * len(suite.seeds) * suite.training.epochs
    if len(methods) <= MOST_COLUMNS and points <= MOST_POINTS:
        return [Page("training", methods)]
    return [Page(f"training-{method}", {label: [label] for label in labels}) for method, labels in methods.items()]


def page_names(suite: Suite) -> list[str]:
    """The name of every page that a suite with these methods may have, of whatever size."""
    return ["training", *dict.fromkeys(f"training-{variant.method}" for variant in suite.variants)]


def curves_figure(suite: Suite, page: Page, runs: pd.DataFrame, epochs: pd.DataFrame) -> Figure | None:
    """A page of one data set's runs; None where none of them has epochs."""
    there = set(epochs["variant"]) if len(epochs) else set()
    columns = {title: [label for label in labels if label in there] for title, labels in page.columns.items()}
    columns = {title: labels for title, labels in columns.items() if labels}
    if not columns:
        return None
    shown = [label for labels in columns.values() for label in labels]
    epochs = epochs[epochs["variant"].isin(shown)]
    rows = [row for row in quantities(suite) if epochs[row.column].notna().any()]
    fates = runs[runs["variant"].isin(shown)].drop_duplicates(["variant", "seed"])
    fallen = describe_runs(fates, "diverged")
    figure, grid = _grid(len(rows), len(columns), max(map(len, columns.values())), -(-len(fallen) // NOTE_LINE))
    looks, traces = styles(suite), dict(list(epochs.groupby("variant")))
    for row, line in zip(rows, grid, strict=True):
        _scale(line[0], row, epochs)
        for axes, labels in zip(line, columns.values(), strict=True):
            axes.tick_params(labelsize=8, length=0)
            if epochs.loc[epochs["variant"].isin(labels), row.column].isna().all():
                look = {"ha": "center", "va": "center", "fontsize": 8, "color": BASE}
                axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, **look)
                continue
            for label in labels:
                _curves(axes, row, looks[label], traces[label], fates[fates["variant"] == label].set_index("seed"))
        line[0].set_ylabel(row.axis, fontsize=9)
        line[0].yaxis.set_label_coords(-0.5 / PANEL[0], 0.5)
    for axes, (title, labels) in zip(grid[0], columns.items(), strict=True):
        _head(axes, title, labels, looks)
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in grid[-1]:
        axes.set_xlabel("epoch", fontsize=9)
    title = f"{runs['dataset'].iloc[0]}: training, epoch by epoch"
    figure.text(0.1 / figure.get_figwidth(), 1 - 0.1 / figure.get_figheight(), title, fontsize=11, va="top")
    _key(figure, suite, shown, fates, fallen)
    return figure


def _grid(rows: int, columns: int, variants: int, notes: int) -> tuple[Figure, np.ndarray]:
    """Panels of one size, with room for the heads of so many variants above and so many more lines of notes below.

    Laid out by hand: matplotlib's layout engine takes as long as all the drawing.
    """
    left, right, top, bottom = 0.9, 0.15, 0.6 + 0.17 * variants, 0.72 + 0.16 * notes  # inches
    width = left + right + columns * (PANEL[0] + GAP) - GAP
    height = top + bottom + rows * (PANEL[1] + GAP) - GAP
    figure = Figure(figsize=(width, height))
    edges = {"left": left / width, "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height}
    gaps = {"wspace": GAP / PANEL[0], "hspace": GAP / PANEL[1]}
    grid = figure.subplots(rows, columns, sharex=True, sharey="row", squeeze=False, gridspec_kw=edges | gaps)
    return figure, grid


def curves_text(suite: Suite, page: Page, runs: pd.DataFrame, epochs: pd.DataFrame) -> PlotText | None:
    """What is said of `curves_figure` of the same rows; None where there is no such figure."""
    shown = [label for labels in page.columns.values() for label in labels]
    epochs = epochs[epochs["variant"].isin(shown)] if len(epochs) else epochs
    if epochs.empty:
        return None
    dataset, fates = runs["dataset"].iloc[0], runs[runs["variant"].isin(shown)].drop_duplicates(["variant", "seed"])
    rows = [row.name for row in quantities(suite) if epochs[row.column].notna().any()]
    by_method = page.name == "training"
    method = "" if by_method else f" {page.name.partition('-')[2]}"
    layout = f"One column a {'method' if by_method else 'variant'}; rows: {', '.join(rows)}."
    caption = (
        f"Training{method} epoch by epoch (the first is 0), {dataset}. {layout} Thin lines: seeds (where they differ); "
        "thick: the mean of the seeds that neither collapsed nor diverged; grey: without M+; coloured and broken: with "
        "M+. Triangles: epochs from which M+ uses more steps; circles: the epoch evaluated; crosses: collapse. "
        f"{describe_protocol(suite, runs, [dataset])}"
    )
    failed = [f"{status}: {found}" for status in ("collapsed", "diverged") if (found := describe_runs(fates, status))]
    traces = dict(list(epochs.groupby("variant")))
    said = [_alt(label, traces[label], fates) for label in shown if label in traces]
    alt = f"{layout} {' '.join(said)} {'; '.join(failed).capitalize() or 'No run collapsed or diverged'}."
    return PlotText(f"Training{method}, epoch by epoch: {dataset}", caption, alt)


def _alt(label: str, trace: pd.DataFrame, fates: pd.DataFrame) -> str:
    """A variant's steps and magnitude from beginning to end and its PGD accuracy in the end, in a sentence."""
    status = fates[fates["variant"] == label].set_index("seed")["status"]
    healthy = trace[trace["seed"].map(status) == "ok"]
    if healthy.empty:
        return f"{label}: no run is ok."
    means = healthy.groupby("epoch")[["steps", "magnitude", "validation_pgd_accuracy"]].mean()
    first, last, magnitude = means.iloc[0], means.iloc[-1], means["magnitude"].dropna()
    steps = f"{first['steps']:.3g}" + (f" to {last['steps']:.3g}" if last["steps"] != first["steps"] else "")
    grown = sorted({int(epoch) for _, run in healthy.groupby("seed") for epoch in growth(run)["epoch"]})
    when = f" (more from epoch {', '.join(map(str, grown))} on)" if 0 < len(grown) <= MOST_EPOCHS_NAMED else ""
    size = ""
    if len(magnitude):
        peak = f"at most {magnitude.max():,.0f} in epoch {magnitude.idxmax()}"
        size = f", magnitude {magnitude.iloc[0]:,.0f} to {magnitude.iloc[-1]:,.0f}, {peak}"
    pgd = f"{100 * last['validation_pgd_accuracy']:.1f} %"
    return f"{label}: steps {steps}{when}{size}, validation PGD accuracy {pgd} in the end."


def growth(trace: pd.DataFrame) -> pd.DataFrame:
    """The rows of one run's epochs in which it used more steps than in the epoch before."""
    return trace[trace["steps"].diff() > 0]


def _scale(axes: Axes, row: Row, epochs: pd.DataFrame) -> None:
    values = epochs[row.column].dropna() * row.factor
    if row.column in ("magnitude", "learning_rate") and values.min() > 0 and values.max() > LOG_BEYOND * values.min():
        axes.set_yscale("log")
        plain_log(axes.yaxis, subs=(1,) if values.max() > 50 * values.min() else (1, 3))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=row.column == "steps"))
        if row.column in SET_BY_EPOCH:
            axes.set_ylim(0, 1.12 * values.max() or 1)


def _curves(axes: Axes, row: Row, style: Style, trace: pd.DataFrame, fates: pd.DataFrame) -> None:
    """One variant in one panel: a thin line for each seed, a thick one for the mean of those that are ok, and events.

    Seeds that are all the same are drawn as their mean alone.
    """
    colour = style.colour if style.mplus else BASE
    form = {"color": colour, "clip_on": False}
    outline = _stairs if row.column in SET_BY_EPOCH else lambda values: (values.index, values)
    table = (trace.pivot(index="epoch", columns="seed", values=row.column) * row.factor).dropna(axis=1, how="all")
    healthy = [seed for seed in table if fates.loc[seed, "status"] == "ok"]
    if len(healthy) < table.shape[1] or (table.nunique(axis=1) > 1).any():
        for seed in table:
            axes.plot(*outline(table[seed].dropna()), lw=0.6, alpha=0.55, label="_seed", **form)
    mean = table[healthy].mean(axis=1).dropna()
    if len(mean):
        axes.plot(*outline(mean), lw=1.8, ls=style.line, label="_mean", **form)
    for seed in table:
        if row.column in ("steps", "magnitude") and style.mplus:
            grown = growth(trace[trace["seed"] == seed])
            look = {"ms": 4.2, "mfc": colour, "mec": "white", "mew": 0.5}
            axes.plot(grown["epoch"], grown[row.column], "^", zorder=4, clip_on=False, **look)
        _fate(axes, row, table[seed].dropna(), fates.loc[seed], colour)


def _stairs(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The corners of a line that is level throughout each epoch, from the first epoch's number to the last's."""
    x, y = values.index.to_numpy(float), values.to_numpy(float)
    changes = np.flatnonzero(np.diff(y))
    between = np.repeat((x[changes] + x[changes + 1]) / 2, 2)
    levels = np.repeat(y[np.append(changes, len(y) - 1)], 2)
    return np.concatenate([x[:1], between, x[-1:]]), levels


def _fate(axes: Axes, row: Row, values: pd.Series, fate: pd.Series, colour: str) -> None:
    """Where a run collapsed or ended, and which epoch was evaluated, on the run's line."""
    if row.column == "validation_pgd_accuracy" and fate["evaluated_epoch"] in values.index:
        look = {"mfc": "white", "mec": colour, "mew": 0.9, "zorder": 4}
        axes.plot(fate["evaluated_epoch"], values[fate["evaluated_epoch"]], "o", ms=3.8, **look)
    if row.column in ("step_size", "learning_rate"):
        return
    if fate["status"] == "collapsed" and fate["status_epoch"] in values.index:
        axes.plot(fate["status_epoch"], values[fate["status_epoch"]], ls="", ms=6, zorder=5, **CROSS)
    if fate["status"] == "diverged" and len(values):
        axes.plot(values.index[-1], values.iloc[-1], "|", color=INK, ms=9, mew=1.6, zorder=5)


def _head(axes: Axes, title: str, labels: list[str], looks: dict[str, Style]) -> None:
    """A column's title, and how the variants in it are drawn where it is not about a single one."""
    colours = [looks[label].colour if looks[label].mplus else BASE for label in labels]
    pairs = zip(labels, colours, strict=True)
    lines = [Line2D([], [], lw=1.8, ls=looks[label].line, color=colour) for label, colour in pairs]
    axes.legend(
        lines,
        labels if labels != [title] else [""],
        title=title,
        title_fontproperties={"weight": "bold", "size": 10},
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        fontsize=8.5,
        handlelength=2.6,
        borderaxespad=0.1,
        labelspacing=0.25,
    )


def _key(figure: Figure, suite: Suite, shown: list[str], fates: pd.DataFrame, diverged: str) -> None:
    looks, status = styles(suite), set(fates["status"])
    several = fates.groupby("variant").size().max() > 1
    handles = [Line2D([], [], color=INK, lw=0.6, label="a seed")] if several else []
    if several and "ok" in status:
        handles.append(Line2D([], [], color=INK, lw=1.8, label="mean of the seeds that are ok"))
    if any(looks[label].mplus for label in shown):
        handles.append(Line2D([], [], ls="", marker="^", ms=5, mfc=INK, mec="white", label="M+ adds steps"))
    if fates["evaluated_epoch"].notna().any():
        handles.append(Line2D([], [], ls="", marker="o", ms=4.5, mfc="white", mec=INK, label="the epoch evaluated"))
    if "collapsed" in status:
        handles.append(Line2D([], [], ls="", ms=6, label="collapsed", **CROSS))
    if "diverged" in status:
        handles.append(Line2D([], [], ls="", marker="|", color=INK, ms=9, mew=1.6, label="diverged"))
    key(figure, handles, f"Diverged, in no mean: {diverged}" if diverged else "", columns=len(handles))
