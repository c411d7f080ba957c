"""The data sets: what they are, their verified and prepared files, and the split that every run shares.

python -m experiment.data NAME --data-dir DIR [--mirror URL ...]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.datasets.dataset import Dataset, fixed_permutation
from experiment.download import fetch, missing_raw, verify_raw
from experiment.errors import UserError, reported
from experiment.files import write_atomically

if TYPE_CHECKING:  # the Snakefile imports this module at every start, and these would cost it time
    from numpy import ndarray
    from torch import Tensor

FOLDER = Path(__file__).with_name("datasets")


def names() -> list[str]:
    """The data sets that have a file in experiment/datasets, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "dataset"))


def dataset(name: str) -> Dataset:
    """What is known of a data set. Raises UserError where it has no file in experiment/datasets."""
    if name not in names():
        raise UserError(f"data set {name!r} is not known; the data sets are {', '.join(names())}")
    return importlib.import_module(f"experiment.datasets.{name}").DATASET


def prepare(name: str, data_dir: str | Path, mirrors: Sequence[str] = ()) -> None:
    """Write the prepared files of a data set's two splits from verified raw files.

    Each file holds `images`, uint8 (N, C, H, W), and `labels`, int64 (N,).
    mirrors: addresses tried before those that are known when the raw files are absent.
    Raises UserError for an unknown name, damaged raw files, and raw files that are absent and not to be had.
    """
    known = dataset(name)
    verify_raw(known.archives, data_dir)
    fetch(known.archives, data_dir, [*mirrors, *known.mirrors])
    for split in ("train", "test"):
        images, labels = _read(known, Path(data_dir), split)
        found = sha256(images, labels)
        problem = _misfit(known, split, images, labels)
        if found != (pinned := known.sha256.get(split, found)):
            problem = f"they have SHA-256 {found} instead of {pinned}"
        if problem:
            raise UserError(
                f"{name}: the {split} images are not those of the data set although the raw files are right: "
                f"{problem}; install the versions in constraints.txt and run snakemake again"
            )
        _save(prepared_file(name, split, data_dir), images, labels)


def prepared_file(name: str, split: str, data_dir: str | Path) -> Path:
    """Where the prepared file of a split, "train" or "test", lies: in <data_dir>/prepared/<name>.

    In data/prepared/<name> where data_dir is a folder that cannot be written to and that has no prepared files.
    """
    folder = Path(data_dir)
    if folder.is_dir() and not os.access(folder, os.W_OK) and not (folder / "prepared" / name).is_dir():
        folder = Path("data")
    return folder / "prepared" / name / f"{split}.safetensors"


def load_split(name: str, split: str, data_dir: str | Path) -> tuple[Tensor, Tensor]:
    """Images, uint8 (N, C, H, W), and labels, int64 (N,), of a prepared split, "train" or "test", verified.

    Raises UserError as `check` does, and where the prepared file is missing.
    """
    import torch

    images, labels = _load(dataset(name), split, data_dir)
    return torch.from_numpy(images), torch.from_numpy(labels)


def check(name: str, data_dir: str | Path) -> None:
    """Raise UserError if a data file that is there is damaged; what is not there is made or downloaded later.

    A prepared file must hold the data set: its digest must be the known one, or, where none is known, that of the raw
    files, which must then be there and have the publisher's checksums. Without PyTorch, which takes seconds to load.
    """
    prepared = [split for split in ("train", "test") if prepared_file(name, split, data_dir).exists()]
    for split in prepared:
        _load(dataset(name), split, data_dir)
    if len(prepared) < 2:
        verify_raw(dataset(name).archives, data_dir)


def _load(known: Dataset, split: str, data_dir: str | Path) -> tuple[ndarray, ndarray]:
    """The images and labels in a prepared file, verified."""
    from safetensors import SafetensorError, safe_open

    path = prepared_file(known.name, split, data_dir)
    try:
        with safe_open(path, framework="numpy") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run snakemake, which prepares it") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); delete it and run snakemake again"
        ) from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run snakemake again") from None
    problem = _misfit(known, split, images, labels)
    if not problem and (found := sha256(images, labels)) != (wanted := _wanted_sha256(known, split, data_dir)):
        problem = f"its tensors have SHA-256 {found} instead of {wanted}"
    if problem:
        raise UserError(
            f"{path} is not the {split} split of {known.name}: {problem}; delete it and run snakemake again"
        )
    return images, labels


def sha256(images: Tensor | ndarray, labels: Tensor | ndarray) -> str:
    """SHA-256 of the types, shapes and values of a split: what records name the data by."""
    import numpy as np

    digest = hashlib.sha256()
    for values in map(np.ascontiguousarray, (images, labels)):
        digest.update(f"torch.{values.dtype} {values.shape} ".encode())  # types as PyTorch calls them
        digest.update(values.data)
    return digest.hexdigest()


def _misfit(known: Dataset, split: str, images: ndarray, labels: ndarray) -> str | None:
    """Why these cannot be the split, as a clause; None where their types, shapes and labels are the data set's."""
    count = known.train_images if split == "train" else known.test_images
    for what, values, dtype, shape in (
        ("images", images, "uint8", (count, *known.shape)),
        ("labels", labels, "int64", (count,)),
    ):
        if values.dtype != dtype or values.shape != shape:
            return f"the {what} are {values.dtype} {values.shape} instead of {dtype} {shape}"
    low, high = labels.min(), labels.max()
    if low < 0 or high >= known.classes:
        return f"the labels reach from {low} to {high} instead of from 0 to {known.classes - 1}"
    return None


def _wanted_sha256(known: Dataset, split: str, data_dir: str | Path) -> str:
    """The digest that the split must have: the known one, or that of the verified raw files."""
    if split in known.sha256:
        return known.sha256[split]
    if absent := missing_raw(known.archives, data_dir):
        raise UserError(
            f"{known.name}: no digest of its prepared files is known, so that they count only beside the raw files, "
            f"and {Path(data_dir) / absent[0]} is missing; put it there, or delete the prepared files and run "
            "snakemake again"
        )
    verify_raw(known.archives, data_dir)
    return sha256(*_read(known, Path(data_dir), split))


def _read(known: Dataset, data_dir: Path, split: str) -> tuple[ndarray, ndarray]:
    """Images, uint8 (N, C, H, W), and labels, int64 (N,), of a split, from raw files that have been verified."""
    import numpy as np

    images, labels = known.read(data_dir, split)
    return np.ascontiguousarray(images, dtype=np.uint8), np.ascontiguousarray(labels, dtype=np.int64)


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


def _save(path: Path, images: ndarray, labels: ndarray) -> None:
    from safetensors.numpy import save

    write_atomically(path, save({"images": images, "labels": labels}))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiment.data", description="Prepare a data set.")
    parser.add_argument("name", metavar="NAME", help=", ".join(names()))
    parser.add_argument(
        "--data-dir", required=True, metavar="DIR", help="folder that holds the raw files, or gets them"
    )
    parser.add_argument("--mirror", nargs="*", default=[], metavar="URL", help="tried before the known mirrors")
    options = parser.parse_args(arguments)
    with reported(f"data {options.name}"):
        prepare(options.name, options.data_dir, options.mirror)
    known = dataset(options.name)
    images = f"{known.train_images:,} train + {known.test_images:,} test images"
    print(f"data {options.name}: {images}, checksums verified")


if __name__ == "__main__":
    main()
