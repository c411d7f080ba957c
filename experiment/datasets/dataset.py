"""What a data set is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from experiment.download import Archive
from experiment.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

    from experiment.data_sources.source import DataSource

Arrays: TypeAlias = "tuple[ArrayLike, ArrayLike]"  # images, 0 to 255 (N, C, H, W), and labels (N,)


@dataclass(frozen=True)
class Dataset:
    """A classification data set.

    classes: number of classes; labels are 0..classes-1.
    shape: (channels, height, width) of an image.
    train_images, test_images: how many images the two splits have.
    mean, std: of each channel over the training images, in [0, 1] pixel units.
    augmentation: "none", "crop" (random crop of the padded image) or "crop_flip" (and a random horizontal flip).
    class_names: what each label stands for.
    read: given the data folder, with verified raw files, and a split, "train" or "test": its images, 0 to 255
        (N, C, H, W), and its labels (N,).
    archives: the publisher's files, which hold the raw ones; empty where a library brings the data.
    mirrors: addresses of folders that serve every archive under its name, tried in turn; the first is the publisher's.
        Every download is checked against the publisher's MD5, so a mirror can be missing but never wrong.
    sha256: of each split as prepared, so that a new version of a library that reads the raw files cannot change the
        data; empty where it is not known, and the prepared files count only beside the raw ones.
    source: where a data set of a user's own comes from. Its mean, std and sha256 are empty until it is prepared.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: str
    class_names: tuple[str, ...]
    read: Callable[[Path, str], Arrays]
    archives: tuple[Archive, ...] = ()
    mirrors: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    source: DataSource | None = None


def fixed_permutation(count: int, purpose: str) -> list[int]:
    """0..count-1 in an order that depends on `count` and `purpose` alone."""
    # Sorting by hashes gives the same order on every version of every library, which no random generator promises.
    return sorted(range(count), key=lambda index: hashlib.sha256(f"{purpose} {index}".encode()).digest())


def train_validation_split(
    images: Tensor, labels: Tensor, validation_images: int, max_train_images: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, then validation images and labels; the same for every seed and variant.

    images, labels: the whole training split, (N, ...) and (N,).
    validation_images: how many are held out, first, so that the cap does not change which.
    max_train_images: how many of the others are used for training; None for all.
    Raises UserError when there are not enough images.
    """
    train_images = len(images) - validation_images if max_train_images is None else max_train_images
    if validation_images < 0 or train_images < 1 or validation_images + train_images > len(images):
        raise UserError(
            f"{validation_images} validation images and {max_train_images or 'at least 1'} training images do not fit "
            f"into the {len(images)} images of the training split; ask for fewer"
        )
    order = fixed_permutation(len(images), "validation")
    validation, train = order[:validation_images], order[validation_images:][:train_images]
    return images[train], labels[train], images[validation], labels[validation]
