"""What half-finished work was made by: only the same may finish it, or its parts would not add up to one result."""

from importlib import metadata
from typing import TypedDict

import torch

from experiment import provenance


class Fingerprint(TypedDict):
    """code: SHA-256 of the sources, by what they are; packages: their versions."""

    code: dict[str, str]
    packages: dict[str, str]
    hardware: str
    precision: str


def fingerprint(where: torch.device, precision: str, code: dict[str, str]) -> Fingerprint:
    """Code, packages, hardware and precision, each of which changes results or times.

    code: as `provenance.made_of` gives it.
    """
    return {
        "code": code,
        "packages": {name: metadata.version(name) for name in ("torch", "numpy", "pyautoattack")},
        "hardware": provenance.hardware(where)["label"],
        "precision": precision,
    }
