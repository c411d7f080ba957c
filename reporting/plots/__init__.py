"""Plots of a suite from the frames of `analysis.results`: accuracy against cost, epochs, published numbers."""

from collections.abc import Iterator

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from reporting.plots.curves import curves_figure, curves_text, page_names, pages
from reporting.plots.literature import literature_figure, literature_text
from reporting.plots.pareto import pareto_figure, pareto_text
from reporting.plots.style import FORMATS, RC, PlotText, render

COSTS = {f"accuracy_vs_{cost}": cost for cost in ("seconds", "compute", "passes")}


def draw(resolved: dict, runs: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, bytes]:
    """Every plot that the frames hold something for, as SVG and PNG, by file name.

    runs, epochs: as in `analysis.results.Collation`. The same frames give the same bytes.
    """
    images = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        for stem, figure in figures(resolved, runs, epochs):
            images |= {f"{stem}.{extension}": image for extension, image in render(figure, stem).items()}
    return images


def file_names(resolved: dict) -> list[str]:
    """Every file that `draw` may make for this suite, now or with other seeds and variants."""
    names = [*COSTS, *page_names(resolved), "literature"]
    stems = [_stem(resolved, name, dataset) for name in names for dataset in resolved["datasets"]]
    return [f"{stem}.{extension}" for stem in stems for extension in FORMATS]


def figures(resolved: dict, runs: pd.DataFrame, epochs: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """The plots, by the stem of their files' names; only those that the frames hold something for."""
    for dataset, ours, seen in _by_dataset(resolved, runs, epochs):
        for name, cost in COSTS.items():
            if (figure := pareto_figure(resolved, ours, cost)) is not None:
                yield _stem(resolved, name, dataset), figure
        for page in pages(resolved):
            if (figure := curves_figure(resolved, page, ours, seen)) is not None:
                yield _stem(resolved, page.name, dataset), figure
        if (figure := literature_figure(resolved, ours)) is not None:
            yield _stem(resolved, "literature", dataset), figure


def texts(resolved: dict, runs: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, PlotText]:
    """Heading, caption and alternative text of every plot that `draw` makes of these frames, by its files' stem."""
    found: dict[str, PlotText | None] = {}
    for dataset, ours, seen in _by_dataset(resolved, runs, epochs):
        for name, cost in COSTS.items():
            found[_stem(resolved, name, dataset)] = pareto_text(resolved, ours, cost)
        for page in pages(resolved):
            found[_stem(resolved, page.name, dataset)] = curves_text(resolved, page, ours, seen)
        found[_stem(resolved, "literature", dataset)] = literature_text(resolved, ours)
    return {stem: text for stem, text in found.items() if text is not None}


def _by_dataset(
    resolved: dict, runs: pd.DataFrame, epochs: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    for dataset in resolved["datasets"]:
        seen = epochs[epochs["dataset"] == dataset] if len(epochs) else epochs
        yield dataset, runs[runs["dataset"] == dataset], seen


def _stem(resolved: dict, plot: str, dataset: str) -> str:
    return plot if len(resolved["datasets"]) == 1 else f"{plot}-{dataset}"
