"""Replay logged magnitudes (one an epoch, one a line) through a steps rule; prints the step count of each epoch.

python -m steps.replay mplus-2021 --first 1 --most 8 --gamma 1.01 --step-size 10/255 --eps 8/255 FILE
"""

import argparse
import math
import sys
from dataclasses import MISSING, fields
from pathlib import Path

from experiment.errors import UserError
from experiment.quantity import quantity
from steps import RULES
from steps.rule import Statistics, StepsRule


def replay(rule: StepsRule, magnitudes: list[float]) -> list[int]:
    """Steps used in each epoch when its magnitude is what is given, one an epoch."""
    used = []
    for epoch, magnitude in enumerate(magnitudes):
        used.append(rule.effort_for(epoch).steps)
        rule.end_epoch(epoch, Statistics(magnitude, accuracy=math.nan))
    return used


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m steps.replay", description="Replay magnitudes through a rule.")
    rules = parser.add_subparsers(dest="rule", required=True)
    for name, cls in RULES.items():
        if cls.magnitude_of is None:
            continue
        options = rules.add_parser(name, help=cls.__doc__.partition("\n")[0])
        for parameter in fields(cls):
            flag = "--" + parameter.name.replace("_", "-")
            if parameter.type is bool:
                options.add_argument(flag, action="store_true", help=parameter.metadata["help"])
            else:
                kind = int if parameter.type is int else str
                options.add_argument(flag, type=kind, required=parameter.default is MISSING)
        options.add_argument("file", type=Path, metavar="FILE", help="magnitudes, one an epoch, one a line")
    chosen = vars(parser.parse_args(arguments))
    try:
        file, rule = chosen.pop("file"), RULES[chosen.pop("rule")]
        eps = quantity(chosen["eps"], "--eps")
        numbers = {
            key: quantity(text, "--" + key.replace("_", "-"), eps if key == "step_size" else None)
            for key, text in chosen.items()
            if isinstance(text, str)
        }
        if not 0 <= chosen["first"] <= chosen["most"]:
            raise UserError(f"--first {chosen['first']} must lie between 0 and --most, which is {chosen['most']}")
        for key, number in numbers.items():
            if not 0 < number <= (1 if key == "eps" else math.inf):
                raise UserError(f"--{key.replace('_', '-')} is {number:g}; it must be above 0, and eps at most 1")
        magnitudes = read_magnitudes(file)
        print("\n".join(map(str, replay(rule(**{**chosen, **numbers}), magnitudes))))
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
