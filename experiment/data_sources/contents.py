"""What a module that reads a kind of source offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy import ndarray


@dataclass(frozen=True)
class Contents:
    """What is found in a source without reading its images; each as `Dataset` has it."""

    classes: int
    shape: tuple[int, int, int]
    train_images: int
    test_images: int
    class_names: tuple[str, ...]


class Reader(Protocol):
    """A module of this folder."""

    def files(self, path: Path, /) -> list[Path]:
        """What the source is made of."""

    def describe(self, path: Path, /) -> Contents:
        """What it holds. Raises UserError where it will not do."""

    def read(self, path: Path, split: str, /) -> tuple[ndarray, ndarray]:
        """Images, uint8 (N, C, H, W), and labels (N,) of a split of a source that `describe` has accepted."""
