"""A folder of images in the layout of torchvision's ImageFolder: train/<class>/*.png and test/<class>/*.png."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.data_sources.contents import Contents
from experiment.errors import UserError

if TYPE_CHECKING:
    from numpy import ndarray
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
GREY, MORE_THAN_8_BITS = ("1", "L"), ("I", "F")  # how modes of Pillow's begin


def files(path: Path) -> list[Path]:
    """What the source is made of: every image of both splits, in the order of `read`."""
    return [file for split in ("train", "test") for images in _by_class(path, split).values() for file in images]


def describe(path: Path) -> Contents:
    """What the folder holds, from the names of its files and the head of the first. Raises UserError.

    Classes are the folders of train/, in alphabetical order. Images are grey if the first one is.
    """
    train, test = _by_class(path, "train"), _by_class(path, "test")
    if len(train) < 2:
        raise UserError(f"{path / 'train'} has {len(train)} folders of classes; it must have two at least")
    for name in [*train, *test]:
        if name not in train or name not in test:
            here, there = ("test", "train") if name in train else ("train", "test")
            raise UserError(
                f"{path / here} has no folder {name!r}, a class of {there}; both must have the same classes"
            )
    first = next(iter(train.values()))[0]
    with _opened(first) as image:
        width, height = image.size
        channels = 1 if image.mode in GREY else 3
    return Contents(
        classes=len(train),
        shape=(channels, height, width),
        train_images=sum(map(len, train.values())),
        test_images=sum(map(len, test.values())),
        class_names=tuple(train),
    )


def read(path: Path, split: str) -> tuple[ndarray, ndarray]:
    """Images, uint8 (N, C, H, W), and labels (N,), of a folder that `describe` has accepted.

    Raises UserError that names the first image that is not like the first of all.
    """
    import numpy as np

    channels, height, width = describe(path).shape
    by_class = _by_class(path, split)
    images = np.empty((sum(map(len, by_class.values())), channels, height, width), dtype=np.uint8)
    labels = np.repeat(np.arange(len(by_class)), [len(files) for files in by_class.values()])
    for place, file in enumerate(file for files in by_class.values() for file in files):
        pixels = np.asarray(_decoded(file, channels, (width, height)))
        images[place] = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    return images, labels


def _by_class(path: Path, split: str) -> dict[str, list[Path]]:
    """The images of each class, in alphabetical order, as ImageFolder has them; hidden folders are left out."""
    folder = path / split
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({error.strerror}); images lie in {path / 'train'}/<class> and "
            f"{path / 'test'}/<class>"
        ) from None
    found = {name: _images(folder / name) for name in names}
    for name, images in found.items():
        if not images:
            raise UserError(f"{folder / name} holds no image; a class must have some ({', '.join(EXTENSIONS)})")
    return found


def _images(folder: Path) -> list[Path]:
    return [
        Path(root, name)
        for root, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name.lower().endswith(EXTENSIONS)
    ]


def _decoded(file: Path, channels: int, size: tuple[int, int]) -> Image:
    """The image, grey or RGB, if it is of that size, (W, H)."""
    with _opened(file) as image:
        if image.size != size:
            wrong = "{}x{} pixels".format(*image.size)
            raise UserError(f"{file} has {wrong} where the first image has {size[0]}x{size[1]}; scale all to one size")
        if channels == 1 and image.mode not in GREY:
            raise UserError(f"{file} has colours and the first image is grey; make all grey or all RGB")
        try:
            return image.convert("L" if channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{file} cannot be read as an image ({error})") from None


def _opened(file: Path) -> Image:
    from PIL import Image

    try:
        image = Image.open(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} cannot be read as an image ({error})") from None
    if image.mode.startswith(MORE_THAN_8_BITS):
        raise UserError(f"{file} has more than 8 bits a channel; make all images of 8 bits")
    return image
