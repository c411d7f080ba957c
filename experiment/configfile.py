"""Refuse a suite's file that is no YAML before Snakemake reads it, whose own refusals name neither file nor line.

python -m experiment.configfile ARGUMENTS          (Snakemake's; its profile runs this)
"""

import argparse
import os
import sys

from experiment import strict_yaml
from experiment.errors import UserError, shown
from experiment.suite import ROOT


def check(file: str) -> None:
    """Raise UserError unless the file is readable and has keys."""
    content = strict_yaml.read(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} is {shown(content) if content else 'empty'}; it must be a mapping with a suite's keys")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiment.configfile", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[], metavar="FILE", help="checked")
    try:
        for file in parser.parse_known_args(arguments)[0].configfile or [os.path.relpath(ROOT / "configs/quick.yaml")]:
            check(file)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
