"""What all plots of a suite share: how a variant looks, what a mark means, and how a figure becomes bytes."""

import io
import re
import textwrap
from collections import Counter
from dataclasses import dataclass

import matplotlib
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiment.suite import Suite
from reporting.captions import is_mplus

# Metadata that would change from one day to the next, or repeat what the page around a picture says.
FORMATS = {"svg": dict.fromkeys(("Date", "Creator", "Format", "Type")), "png": {"Software": None}}
RC = {
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # Verdana, where a reader lacks the first, is as wide
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.edgecolor": "#555555",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "axes.labelcolor": "#222222",
    "text.color": "#222222",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.solid_capstyle": "butt",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.dpi": 160,
}
# Okabe and Ito's colours, told apart with any common colour vision; without their yellow, too pale for a line.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
INK = "#222222"
CROSS = {"marker": "x", "color": INK, "mew": 1.6}
LINKED = re.compile(r'(xlink:href="#|url\(#)([^")]+)')
BROKEN_LINE = re.compile(r"M \S+ \S+\s+(?:L \S+ \S+\s+)+")
PLACES = re.compile(r'( (?:d|x|y|transform)=")([^"]+)')


@dataclass(frozen=True)
class PlotText:
    """What is said of a plot: a heading, the caption below it, and what to read where it cannot be seen."""

    title: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Style:
    """How a variant looks: the method is the colour; M+ is an open marker and a broken line."""

    colour: str
    marker: str
    line: str | tuple
    mplus: bool


def styles(suite: Suite) -> dict[str, Style]:
    """A style for each variant's label, told apart within its method by marker and line."""
    methods = list(dict.fromkeys(variant.method for variant in suite.variants))
    looks = {
        False: [("o", "-"), ("s", (0, (1, 1))), ("v", "-."), ("P", (0, (5, 1, 1, 1, 1, 1)))],
        True: [("D", (0, (4, 2))), ("^", (0, (6, 1, 1, 1))), ("<", (0, (2, 1))), (">", (0, (8, 3)))],
    }
    used: Counter = Counter()
    result = {}
    for variant in suite.variants:
        kind = (variant.method, is_mplus(variant))
        marker, line = looks[kind[1]][used[kind] % len(looks[kind[1]])]
        used[kind] += 1
        colour = COLOURS[methods.index(variant.method) % len(COLOURS)]
        result[variant.label] = Style(colour, marker, line, kind[1])
    return result


def dark(colour: str) -> tuple[float, ...]:
    """The colour, dark enough for small text on white."""
    return tuple(0.65 * part for part in to_rgb(colour))


def faded(colour: str) -> tuple[float, ...]:
    """The colour about half-way to white."""
    return tuple(0.45 + 0.55 * part for part in to_rgb(colour))


def plain_log(axis: Axis, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks at `subs` times powers of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def key(figure: Figure, handles: list[Line2D], note: str, columns: int) -> None:
    """What the marks mean, below the panels, under a `note` (such as which runs diverged)."""
    wrapped = textwrap.fill(note, 100) if note else None
    figure.legend(
        handles=handles, title=wrapped, title_fontsize=9, loc="outside lower center", ncols=columns, borderaxespad=0.3
    )


def settle(figure: Figure) -> None:
    """Lay the figure out once and for all, so that what is placed in it by pixels stays right in every format."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")


def render(figure: Figure, name: str) -> dict[str, bytes]:
    """The figure's bytes by extension. `name`: unlike that of any figure that may be on the same page."""
    for axes in figure.axes:  # they end where the panel does, and a third of an SVG would say so
        for line in [*axes.get_xgridlines(), *axes.get_ygridlines()]:
            line.set_clip_on(False)
    images = {}
    for extension, metadata in FORMATS.items():
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": name}):
            figure.savefig(buffer, format=extension, metadata=metadata)
        images[extension] = buffer.getvalue()
    return images | {"svg": _for_a_page(images["svg"].decode(), name).encode()}


def _for_a_page(svg: str, name: str) -> str:
    """The SVG as it may stand inside an HTML page among others, and smaller.

    Ids are unlike those of other figures, rules of style end at its own root, groups that group nothing are gone, and
    places are rounded to what can be seen.
    """
    linked = {found[2] for found in LINKED.finditer(svg)}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in linked else "", svg)
    svg = LINKED.sub(lambda m: f"{m[1]}{name}-{m[2]}", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    family = ", ".join(f"'{font}'" for font in RC["font.sans-serif"])
    root = f'<svg style="stroke-linejoin: round; stroke-linecap: butt; font-family: {family}, sans-serif"'
    svg = PLACES.sub(lambda m: m[1] + _shorter(m[2]), _ungrouped(svg.replace("<svg", root, 1)))
    return re.sub(r"\s*\n\s*", "\n", svg)


def _shorter(places: str) -> str:
    """Coordinates in points, to 0.1, and to 0.01 in the small outlines of marks; a long line's are relative."""
    corners = re.findall(r"[ML] (\S+) (\S+)", places) if BROKEN_LINE.fullmatch(places) else []
    if len(corners) < 10:
        return re.sub(r"-?\d+\.\d+", lambda n: f"{float(n[0]):.{1 if abs(float(n[0])) >= 10 else 2}f}", places)
    tenths = [(round(10 * float(x)), round(10 * float(y))) for x, y in corners]
    moves = [(x - a, y - b) for (a, b), (x, y) in zip(tenths[:-1], tenths[1:], strict=True)]
    x, y = tenths[0]
    line = f"M{x / 10:g} {y / 10:g}l" + " ".join(f"{x / 10:g} {y / 10:g}" for x, y in moves)
    return re.sub(r"\b0\.", ".", line).replace(" -", "-")


def _ungrouped(svg: str) -> str:
    """Without the groups that have no attribute."""
    open_groups, parts = [], []
    for part in re.split(r"(</?g(?: [^>]*[^/>])?>)", svg.replace("<g/>", "")):
        if part.startswith("<g"):
            open_groups.append(part)
        group = open_groups.pop() if part == "</g>" else part
        if group != "<g>":
            parts.append(part)
    return "".join(parts)
