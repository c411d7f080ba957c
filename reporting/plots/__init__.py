"""Plots of a suite from the frames of `analysis.results`: accuracy against cost, epochs, published numbers."""

from collections.abc import Iterator

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from experiment.suite import Suite
from reporting.plots.curves import curves_figure, curves_text, page_names, pages
from reporting.plots.literature import literature_figure, literature_text
from reporting.plots.pareto import pareto_figure, pareto_text
from reporting.plots.style import FORMATS, RC, PlotText, render

COSTS = {f"accuracy_vs_{cost}": cost for cost in ("seconds", "compute", "passes")}


def draw(suite: Suite, runs: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, bytes]:
    """Every plot that the frames hold something for, as SVG and PNG, by file name.

    runs, epochs: as in `analysis.results.Collation`. The same frames give the same bytes.
    """
    images = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        for stem, figure in figures(suite, runs, epochs):
            images |= {f"{stem}.{extension}": image for extension, image in render(figure, stem).items()}
    return images


def file_names(suite: Suite) -> list[str]:
    """Every file that `draw` may make for this suite, now or with other seeds and variants."""
    names = [*COSTS, *page_names(suite), "literature"]
    stems = [_stem(suite, name, dataset) for name in names for dataset in suite.datasets]
    return [f"{stem}.{extension}" for stem in stems for extension in FORMATS]


def figures(suite: Suite, runs: pd.DataFrame, epochs: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """The plots, by the stem of their files' names; only those that the frames hold something for."""
    for dataset, ours, seen in _by_dataset(suite, runs, epochs):
        for name, cost in COSTS.items():
            if (figure := pareto_figure(suite, ours, cost)) is not None:
                yield _stem(suite, name, dataset), figure
        for page in pages(suite):
            if (figure := curves_figure(suite, page, ours, seen)) is not None:
                yield _stem(suite, page.name, dataset), figure
        if (figure := literature_figure(suite, ours)) is not None:
            yield _stem(suite, "literature", dataset), figure


def texts(suite: Suite, runs: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, PlotText]:
    """Heading, caption and alternative text of every plot that `draw` makes of these frames, by its files' stem."""
    found: dict[str, PlotText | None] = {}
    for dataset, ours, seen in _by_dataset(suite, runs, epochs):
        for name, cost in COSTS.items():
            found[_stem(suite, name, dataset)] = pareto_text(suite, ours, cost)
        for page in pages(suite):
            found[_stem(suite, page.name, dataset)] = curves_text(suite, page, ours, seen)
        found[_stem(suite, "literature", dataset)] = literature_text(suite, ours)
    return {stem: text for stem, text in found.items() if text is not None}


def _by_dataset(
    suite: Suite, runs: pd.DataFrame, epochs: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    for dataset in suite.datasets:
        seen = epochs[epochs["dataset"] == dataset] if len(epochs) else epochs
        yield dataset, runs[runs["dataset"] == dataset], seen


def _stem(suite: Suite, plot: str, dataset: str) -> str:
    return plot if len(suite.datasets) == 1 else f"{plot}-{dataset}"
