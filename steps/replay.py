"""Replay logged magnitudes (one an epoch, one a line) through a steps rule; prints the step count of each epoch.

python -m steps.replay mplus-2021 --first 1 --most 8 --gamma 1.01 --step-size 10/255 --eps 8/255 FILE
"""

import argparse
import math
import sys
from pathlib import Path

from pydantic import ValidationError

from experiment import plugins
from experiment.errors import UserError
from experiment.fields import sentence
from experiment.quantity import length
from steps.rule import Statistics, StepsRule


def replay(rule: StepsRule, magnitudes: list[float]) -> list[int]:
    """Steps used in each epoch when its magnitude is what is given, one an epoch."""
    used = []
    for epoch, magnitude in enumerate(magnitudes):
        used.append(rule.effort_for(epoch).steps)
        rule.end_epoch(epoch, Statistics(magnitude, accuracy=math.nan))
    return used


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m steps.replay", description="Replay magnitudes through a rule.")
    rules = parser.add_subparsers(dest="rule", required=True)
    for name in plugins.names("steps"):
        cls = plugins.load("steps", name)
        if cls.magnitude_of is None:
            continue
        options = rules.add_parser(name, help=(cls.__doc__ or "").partition("\n")[0])
        for key, field in plugins.parameters("steps", name).model_fields.items():
            flag = "--" + key.replace("_", "-")
            if field.annotation is bool:
                options.add_argument(flag, action="store_true", help=field.description)
            elif key != "rule":
                kind = int if field.annotation is int else str
                options.add_argument(flag, type=kind, required=field.is_required(), help=field.description)
        options.add_argument("--eps", required=True, help="Radius of the ball in pixel units, such as 8/255.")
        options.add_argument("file", type=Path, metavar="FILE", help="magnitudes, one an epoch, one a line")
    chosen = vars(parser.parse_args(arguments))
    try:
        file, eps = chosen.pop("file"), length(chosen.pop("eps"), "--eps")
        try:
            found = plugins.validated("steps", chosen, {"eps": eps})
        except ValidationError as error:
            raise sentence(error, lambda loc: f"--{loc[0]}".replace("_", "-") if loc else chosen["rule"]) from None
        magnitudes = read_magnitudes(file)
        rule = plugins.of_spec("steps", found.model_dump(), eps=eps, epochs=len(magnitudes))
        print("\n".join(map(str, replay(rule, magnitudes))))
    except UserError as error:
        sys.exit(f"error: {error}")


def read_magnitudes(file: Path) -> list[float]:
    """Finite, non-negative numbers, one a line. Raises UserError naming the line."""
    try:
        lines = file.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not readable ({error}); give a file of magnitudes, one a line") from None
    magnitudes = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                magnitudes.append(float(line))
            except ValueError:
                magnitudes.append(math.nan)
            if not (math.isfinite(magnitudes[-1]) and magnitudes[-1] >= 0):
                raise UserError(f"{file}, line {number}: {line.strip()!r} is no magnitude (a finite number >= 0)")
    return magnitudes


if __name__ == "__main__":
    main()
