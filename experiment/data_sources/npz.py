"""A file of numpy.savez: train_images, train_labels, test_images and test_labels. Nothing in it is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from experiment.data_sources.contents import Contents
from experiment.errors import UserError, shown

if TYPE_CHECKING:
    from numpy import dtype, ndarray

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
CHANNELS = (1, 3)


def files(path: Path) -> list[Path]:
    """What the source is made of."""
    return [path]


def describe(path: Path) -> Contents:
    """What the file holds, from the headers of its images and from its labels. Raises UserError where it will not do.

    Images: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3, of one shape in both splits. Labels: integers (N,),
    each of 0 to classes-1 in the training split.
    """
    shapes = {array: _shape(path, array) for array in ARRAYS}
    sizes = {}
    for split in ("train", "test"):
        images, labels = shapes[f"{split}_images"], shapes[f"{split}_labels"]
        sizes[split] = _moved_forward(images, _channels_axis(path, f"{split}_images", images))
        if labels != images[:1]:
            raise UserError(
                f"{path}: {split}_labels is {labels}; it must have one label for each of {images[0]} images"
            )
    if sizes["train"] != sizes["test"]:
        raise UserError(f"{path}: test_images are {sizes['test']} (C, H, W) and train_images are {sizes['train']}")
    classes = _classes(path)
    return Contents(
        classes=classes,
        shape=sizes["train"],
        train_images=shapes["train_images"][0],
        test_images=shapes["test_images"][0],
        class_names=tuple(map(str, range(classes))),
    )


def read(path: Path, split: str) -> tuple[ndarray, ndarray]:
    """Images, uint8 (N, C, H, W), and labels (N,) of a split of a file that `describe` has accepted."""
    import numpy as np

    images = _values(path, f"{split}_images")
    axis = _channels_axis(path, f"{split}_images", images.shape)
    images = images[:, None] if axis is None else np.moveaxis(images, axis, 1)
    return images, _values(path, f"{split}_labels")


def _classes(path: Path) -> int:
    import numpy as np

    train, test = (np.unique(_values(path, f"{split}_labels")).tolist() for split in ("train", "test"))
    if len(train) < 2 or train != list(range(len(train))):
        raise UserError(
            f"{path}: train_labels has the values {shown(train)[1:-1]}; they must be 0 to the number of classes less "
            "one, each at least once, and two at least"
        )
    if test[0] < 0 or test[-1] >= len(train):
        raise UserError(
            f"{path}: test_labels reach from {test[0]} to {test[-1]}; those of the training images from 0 to "
            f"{len(train) - 1}"
        )
    return len(train)


def _channels_axis(path: Path, array: str, shape: tuple[int, ...]) -> int | None:
    """Which axis of the images is their channels': the first or last after N, None where they have none."""
    if len(shape) == 3:
        return None
    found = [axis for axis in (1, 3) if shape[axis] in CHANNELS]
    if len(found) != 1:
        why = "either end could be the channels" if found else "neither end is 1 or 3 channels"
        raise UserError(f"{path}: {array} is {shape}, of which {why}; it must be (N, H, W, C) or (N, C, H, W)")
    return found[0]


def _moved_forward(shape: tuple[int, ...], axis: int | None) -> tuple[int, int, int]:
    """(C, H, W) of images of that shape."""
    channels = 1 if axis is None else shape[axis]
    height, width = (length for place, length in enumerate(shape) if place not in (0, axis))
    return channels, height, width


def _shape(path: Path, array: str) -> tuple[int, ...]:
    """An array's shape, from its header, if it is of the right kind."""
    with _opened(path, array) as file:
        shape, kind = _header(file)
    axes, wanted = ((3, 4), "uint8, 0 to 255") if array.endswith("images") else ((1,), "integers")
    if kind.hasobject:
        raise UserError(f"{path}: {array} holds pickled Python objects, which are never loaded; it must be {wanted}")
    if not (kind == "uint8" if array.endswith("images") else kind.kind in "iu"):
        raise UserError(f"{path}: {array} is {kind}; it must be {wanted}")
    if len(shape) not in axes or 0 in shape:
        images = "(N, H, W), (N, H, W, C) or (N, C, H, W)"
        layout = images if array.endswith("images") else "(N,)"
        raise UserError(f"{path}: {array} is {shape}; it must be {layout}, and not empty")
    return shape


def _values(path: Path, array: str) -> ndarray:
    import numpy as np

    with _opened(path, array) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], dtype]:
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind


@contextmanager
def _opened(path: Path, array: str) -> Iterator[IO[bytes]]:
    """The file of one array in the archive. What is wrong with either becomes a UserError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{array}.npy" not in archive.namelist():
                there = ", ".join(sorted(name.removesuffix(".npy") for name in archive.namelist())) or "nothing"
                raise UserError(f"{path}: there is no {array} in it; it has {shown(there)[1:-1]}")
            with archive.open(f"{array}.npy") as file:
                yield file
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is no file of numpy.savez, or a damaged one ({error})") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, RuntimeError, NotImplementedError, zlib.error) as error:
        raise UserError(f"{path}: {array} cannot be read ({error})") from None
