"""Texts beside points of a plot that cover neither each other nor what is drawn."""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

DISTANCES = (7, 12, 18, 26, 36, 48, 62, 78, 96)  # points, from a label's point to its nearest edge
ANGLES = [math.radians(degrees) for degrees in range(0, 360, 15)]
LEADER = 14  # points; a label farther off than this gets a thin line to its point
MARGIN = 2  # pixels kept free around a text


@dataclass(frozen=True)
class Label:
    """A text and the point it names, in data coordinates."""

    text: str
    x: float
    y: float
    colour: str | tuple[float, ...]


def place_labels(axes: Axes, labels: list[Label], obstacles: np.ndarray) -> list[Bbox]:
    """Write each label where it covers least, near before far, and return where they lie, in pixels.

    obstacles: (N, 2) points in data coordinates that should stay visible (marks, and points along lines).
    The figure's layout must be final: call after `Figure.draw_without_rendering`.
    """
    pixels_per_point = axes.figure.dpi / 72
    marks = axes.transData.transform(obstacles)
    placed: list[Bbox] = []
    for label in sorted(labels, key=lambda label: -label.y):
        text = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(0, 0),
            textcoords="offset points",
            color=label.colour,
            fontsize=9,
            ha="center",
            va="center",
        )
        text.set_in_layout(False)
        extent = text.get_window_extent()
        half = np.array([extent.width, extent.height]) / 2
        point = axes.transData.transform((label.x, label.y))
        choices = [
            (distance, _offset(half, angle, distance * pixels_per_point)) for distance in DISTANCES for angle in ANGLES
        ]
        distance, offset = min(
            choices, key=lambda choice: choice[0] + _penalty(point, choice[1], half, placed, marks, axes.bbox)
        )
        text.set_position(tuple(offset / pixels_per_point))
        placed.append(Bbox([point + offset - half, point + offset + half]))
        if distance > LEADER:
            marks = np.concatenate([marks, _leader(point, offset, half)])
            axes.annotate(
                "",
                (label.x, label.y),
                xytext=tuple((_leader(point, offset, half)[-1] - point) / pixels_per_point),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": label.colour, "lw": 0.6, "alpha": 0.7, "shrinkB": 4},
            ).set_in_layout(False)
    return placed


def _offset(half: np.ndarray, angle: float, distance: float) -> np.ndarray:
    """Where the centre of a box of half size `half` lies so that its edge is `distance` away in that direction."""
    direction = np.array([math.cos(angle), math.sin(angle)])
    to_edge = min(
        size / abs(part) if abs(part) > 1e-9 else math.inf for size, part in zip(half, direction, strict=True)
    )
    return direction * (to_edge + distance)


def _leader(point: np.ndarray, offset: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(12, 2) pixels from a label's point to its box."""
    end = offset - _offset(half, math.atan2(offset[1], offset[0]), 0)
    return point + np.linspace(0, 1, 12)[:, None] * end


def _penalty(
    point: np.ndarray, offset: np.ndarray, half: np.ndarray, placed: list[Bbox], marks: np.ndarray, frame: Bbox
) -> float:
    """In points of distance: for leaving the frame, for covering or crossing other texts, for covering marks."""
    low, high = point + offset - half - MARGIN, point + offset + half + MARGIN
    outside = (low < frame.min).any() or (high > frame.max).any()
    texts = sum((low < box.max).all() and (high > box.min).all() for box in placed)
    leader = _leader(point, offset, half)
    crossed = sum(((leader > box.min) & (leader < box.max)).all(axis=1).any() for box in placed)
    reach = 4  # pixels: about the radius of a mark
    hidden = ((marks > low - reach) & (marks < high + reach)).all(axis=1).sum()
    return 10_000 * outside + 1_000 * texts + 60 * crossed + 25 * hidden
