"""Texts beside points of a plot that cover neither each other nor what is drawn."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

DISTANCES = (7, 12, 18, 26, 36, 48, 62, 78, 96)  # points, from a label's point to its nearest edge
ANGLES = np.radians(np.arange(0, 360, 15))
LEADER = 14  # points; a label farther off than this gets a thin line to its point
MARGIN = 2  # pixels kept free around a text
REACH = 4  # pixels, about the radius of a mark


@dataclass(frozen=True)
class Label:
    """A text and the point it names, in data coordinates."""

    text: str
    x: float
    y: float
    colour: str | tuple[float, ...]
    weight: str = "normal"


def place_labels(axes: Axes, labels: list[Label], obstacles: np.ndarray) -> np.ndarray:
    """Write each label where it covers least, near before far; returns (labels, 2, 2): their corners in pixels.

    obstacles: (N, 2) points in data coordinates that should stay visible (marks, and points along lines).
    The figure's layout must be final: a layout engine must have run and been taken away.
    """
    pixels_per_point = axes.figure.dpi / 72
    marks = axes.transData.transform(obstacles)
    frame = axes.bbox.get_points()
    placed = np.empty((0, 2, 2))
    for label in sorted(labels, key=lambda label: -label.y):
        look = {"color": label.colour, "weight": label.weight, "fontsize": 9, "ha": "center", "va": "center"}
        text = axes.annotate(label.text, (label.x, label.y), xytext=(0, 0), textcoords="offset points", **look)
        text.set_in_layout(False)
        extent = text.get_window_extent()
        half = np.array([extent.width, extent.height]) / 2
        point = axes.transData.transform((label.x, label.y))
        ends, centres = _choices(point, half, pixels_per_point)
        penalties = _penalties(point, ends, np.stack([centres - half, centres + half], axis=1), placed, marks, frame)
        best = np.argmin(np.repeat(DISTANCES, len(ANGLES)) + penalties)
        text.set_position(tuple((centres[best] - point) / pixels_per_point))
        placed = np.concatenate([placed, [[centres[best] - half, centres[best] + half]]])
        if DISTANCES[best // len(ANGLES)] > LEADER:
            marks = np.concatenate([marks, _along(point, ends[[best]])[0]])
            line = {"arrowstyle": "-", "color": label.colour, "lw": 0.6, "alpha": 0.7, "shrinkB": 4}
            tail = tuple((ends[best] - point) / pixels_per_point)
            leader = axes.annotate("", (label.x, label.y), xytext=tail, textcoords="offset points", arrowprops=line)
            leader.set_in_layout(False)
    return placed


def _choices(point: np.ndarray, half: np.ndarray, pixels_per_point: float) -> tuple[np.ndarray, np.ndarray]:
    """For each distance and angle, (choices, 2) pixels: where a line from `point` meets the box, and its centre."""
    directions = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    with np.errstate(divide="ignore"):
        to_edge = np.min(half / np.abs(directions), axis=1)
    distances = np.repeat(DISTANCES, len(ANGLES))[:, None] * pixels_per_point
    directions, to_edge = np.tile(directions, (len(DISTANCES), 1)), np.tile(to_edge, len(DISTANCES))[:, None]
    return point + directions * distances, point + directions * (distances + to_edge)


def _along(point: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(ends, 12, 2) points along the lines from `point` to each of the ends."""
    return point + np.linspace(0, 1, 12)[:, None] * (ends - point)[:, None, :]


def _penalties(
    point: np.ndarray, ends: np.ndarray, boxes: np.ndarray, placed: np.ndarray, marks: np.ndarray, frame: np.ndarray
) -> np.ndarray:
    """For each choice, in points of distance: leaving the frame, covering or crossing other texts, covering marks."""
    low, high = boxes[:, 0] - MARGIN, boxes[:, 1] + MARGIN
    outside = ((low < frame[0]) | (high > frame[1])).any(axis=1)
    texts = ((low[:, None] < placed[:, 1]) & (high[:, None] > placed[:, 0])).all(axis=2).sum(axis=1)
    leaders = _along(point, ends)[:, :, None]
    crossed = ((leaders > placed[:, 0]) & (leaders < placed[:, 1])).all(axis=3).any(axis=1).sum(axis=1)
    hidden = ((marks > low[:, None] - REACH) & (marks < high[:, None] + REACH)).all(axis=2).sum(axis=1)
    return 10_000 * outside + 1_000 * texts + 60 * crossed + 25 * hidden
