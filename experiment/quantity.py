"""Numbers as the field writes them in a suite: `0.1`, `8/255`, `5e-4`, and lengths in units of the ball, `1.25 eps`."""

import math
from fractions import Fraction

from experiment.errors import UserError


def quantity(value, where: str, eps: float | None = None) -> float:
    """The number that `value` stands for.

    value: int, float, or a string such as "8/255", "5e-4" and, where `eps` is given, "1.25 eps".
    where: the key it was written under, for the error message.
    eps: the radius of the ball in pixel units ([0, 1]), where lengths relative to it make sense.
    Raises UserError when it is no finite number.
    """
    text = str(value).strip()
    scale = 1.0
    if eps is not None and text.endswith("eps"):
        text, scale = text[: -len("eps")].strip() or "1", eps
    try:
        number = float(Fraction(text.replace(" ", ""))) * scale if not isinstance(value, bool) else math.nan
    except (ValueError, ZeroDivisionError):
        number = math.nan
    if not math.isfinite(number):
        relative = ', or a multiple of the radius such as "0.25 eps"' if eps is not None else ""
        raise UserError(f"{where} is {value!r}; it must be a number such as 0.1 or 8/255{relative}")
    return number
