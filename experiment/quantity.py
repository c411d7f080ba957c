"""Numbers as the field writes them in a suite: `0.1`, `8/255`, `5e-4`, and lengths in units of the ball, `1.25 eps`."""

import argparse
import math
import re

from experiment.errors import UserError, shown

FRACTION = re.compile(r"([+-]?[0-9]{1,15})/([0-9]{1,15})")
MOST_THREADS = 1024


def as_quantity(value: object, eps: float | None = None) -> float:
    """The number that `value` stands for.

    value: int, float, or a string such as "8/255", "5e-4" and, where `eps` is given, "1.25 eps".
    eps: the radius of the ball in pixel units ([0, 1]), where lengths relative to it make sense.
    Raises ValueError, which says what would be right, when it is no finite number.
    """
    text = "" if isinstance(value, bool) else str(value).strip()
    scale = 1.0
    if eps is not None and text.endswith("eps"):
        text, scale = text[: -len("eps")].strip() or "1", eps
    try:
        parts = FRACTION.fullmatch(text.replace(" ", ""))
        number = (int(parts[1]) / int(parts[2]) if parts else float(text)) * scale
    except (ValueError, ZeroDivisionError):
        number = math.nan
    if not math.isfinite(number):
        relative = ', or a multiple of the radius such as "0.25 eps"' if eps is not None else ""
        raise ValueError(f"it must be a number such as 0.1 or 8/255{relative}")
    return number


def as_length(value: object, eps: float | None = None) -> float:
    """A quantity in pixel units, in which an image's values go from 0 to 1, or in units of eps. Raises ValueError."""
    number = as_quantity(value, eps)
    if not 0 < number <= 1:
        raise ValueError("it is in pixel units and must lie in (0, 1], such as 8/255")
    return number


def quantity(value: object, where: str, eps: float | None = None) -> float:
    """As `as_quantity`, of what is written under the key `where`. Raises UserError."""
    try:
        return as_quantity(value, eps)
    except ValueError as error:
        raise UserError(f"{where} is {shown(value)}; {error}") from None


def positive(value: object, where: str) -> float:
    """A quantity above 0. Raises UserError."""
    number = quantity(value, where)
    if number <= 0:
        raise UserError(f"{where} is {number:g}; it must be above 0")
    return number


def length(value: object, where: str, eps: float | None = None) -> float:
    """As `as_length`, of what is written under the key `where`. Raises UserError."""
    number = quantity(value, where, eps)
    try:
        return as_length(number)
    except ValueError as error:
        raise UserError(f"{where} is {number:g}; {error}") from None


def count(text: str) -> int:
    """A whole number of at least 1, from a command line. Raises argparse's error."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"it is {text!r}; it must be a whole number of at least 1")
    return int(text)


def threads(text: str) -> int:
    """A number of CPU threads, from a command line. Raises argparse's error."""
    if (number := count(text)) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"it is {number}; it must be at most {MOST_THREADS}")
    return number
