"""What half-finished work was made by: only the same may finish it, or its parts would not add up to one result."""

from importlib import metadata
from typing import TypedDict

import torch

from experiment import provenance


class Fingerprint(TypedDict):
    """code: SHA-256 of the sources; packages: their versions."""

    code: str
    packages: dict[str, str]
    hardware: str
    precision: str


def fingerprint(where: torch.device, precision: str, *code: str) -> Fingerprint:
    """Code, packages, hardware and precision, each of which changes results or times.

    code: patterns of Python files, from the project's root.
    """
    return {
        "code": provenance.source_sha256(path for pattern in code for path in provenance.ROOT.glob(pattern)),
        "packages": {name: metadata.version(name) for name in ("torch", "numpy", "pyautoattack")},
        "hardware": provenance.hardware(where)["label"],
        "precision": precision,
    }
