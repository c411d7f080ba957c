"""The data sets: what they are, their verified and prepared files, and the split that every run shares.

python -m experiment.data NAME --data-dir DIR [--mirror URL ...] [--npz FILE | --images FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.data_sources import source as own
from experiment.data_sources.source import DataSource
from experiment.datasets.dataset import Dataset
from experiment.download import fetch, missing_raw, verify_raw
from experiment.errors import UserError, reported
from experiment.files import write_atomically

if TYPE_CHECKING:  # the Snakefile imports this module at every start, and these would cost it time
    from numpy import ndarray
    from numpy.typing import ArrayLike
    from torch import Tensor

FOLDER = Path(__file__).with_name("datasets")
SPLITS = ("train", "test")


def names() -> list[str]:
    """The data sets that have a file in experiment/datasets, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "dataset"))


def dataset(entry: str | Mapping[str, Any] | DataSource | Dataset, data_dir: str | Path = "data") -> Dataset:
    """What is known of a data set.

    entry: its name, or a `DataSource` or the mapping of one, for images of a user's own, or what this gave before;
    data_dir: the folder whose prepared files say the rest of a user's own.
    Raises UserError where there is no such data set, or it will not do.
    """
    if isinstance(entry, Dataset):
        entry = entry.source or entry.name
    if isinstance(entry, str):
        if entry not in names():
            raise UserError(f"data set {entry!r} is not known; the data sets are {', '.join(names())}")
        known: Dataset = importlib.import_module(f"experiment.datasets.{entry}").DATASET
        return known
    source = entry if isinstance(entry, DataSource) else DataSource.from_mapping(entry, "data set")
    if source.name in names():
        raise UserError(f"data set {source.name!r} of {source.written} has the name of a known one; name it otherwise")
    return own.dataset(source, _folder(source.name, data_dir))


def prepare(entry: str | DataSource | Dataset, data_dir: str | Path, mirrors: Sequence[str] = ()) -> None:
    """Write the prepared files of a data set's two splits from verified raw files.

    Each file holds `images`, uint8 (N, C, H, W), and `labels`, int64 (N,).
    entry: as for `dataset`; mirrors: addresses tried before those that are known when the raw files are absent.
    Raises UserError for an unknown name, damaged raw files, and raw files that are absent and not to be had.
    """
    known = dataset(entry, data_dir)
    verify_raw(known.archives, data_dir)
    fetch(known.archives, data_dir, [*mirrors, *known.mirrors])
    before = own.state(known.source) if known.source else {}
    splits = {split: _read(known, Path(data_dir), split) for split in SPLITS}
    digests = {split: sha256(*splits[split]) for split in SPLITS}
    for split in SPLITS:
        problem = _misfit(known, split, *splits[split])
        if digests[split] != (pinned := known.sha256.get(split, digests[split])):
            problem = f"they have SHA-256 {digests[split]} instead of {pinned}"
        if problem:
            raise UserError(
                f"{known.name}: the {split} images are not those of the data set although the raw files are right: "
                f"{problem}; install the versions in constraints.txt and run snakemake again"
            )
    files = {split: prepared_file(known.name, split, data_dir) for split in SPLITS}
    if known.source:
        for file in files.values():  # which without its facts, or with others, would not count
            file.unlink(missing_ok=True)
        own.write_facts(known.source, _folder(known.name, data_dir), before, splits["train"][0], digests)
    for split in SPLITS:
        _save(files[split], *splits[split])


def prepared_file(name: str, split: str, data_dir: str | Path) -> Path:
    """Where the prepared file of a split, "train" or "test", lies: in <data_dir>/prepared/<name>.

    In data/prepared/<name> where data_dir is a folder that cannot be written to and that has no prepared files.
    """
    return _folder(name, data_dir) / f"{split}.safetensors"


def _folder(name: str, data_dir: str | Path) -> Path:
    folder = Path(data_dir)
    if folder.is_dir() and not os.access(folder, os.W_OK) and not (folder / "prepared" / name).is_dir():
        folder = Path("data")
    return folder / "prepared" / name


def load_split(entry: str | DataSource | Dataset, split: str, data_dir: str | Path) -> tuple[Tensor, Tensor]:
    """Images, uint8 (N, C, H, W), and labels, int64 (N,), of a prepared split, "train" or "test", verified.

    entry: as for `dataset`. Raises UserError as `check` does, and where the prepared file is missing.
    """
    import torch

    images, labels = _load(dataset(entry, data_dir), split, data_dir)
    return torch.from_numpy(images), torch.from_numpy(labels)


def check(entry: str | DataSource | Dataset, data_dir: str | Path) -> None:
    """Raise UserError if a data file that is there is damaged; what is not there is made or downloaded later.

    entry: as for `dataset`. A prepared file must hold the data set: its digest must be the known one, or, where none is
    known, that of the raw files, which must then be there and have the publisher's checksums; one of a user's own
    images must be of what they are now. Without PyTorch, which takes seconds to load.
    """
    known = dataset(entry, data_dir)
    prepared = [split for split in SPLITS if prepared_file(known.name, split, data_dir).exists()]
    for split in prepared:
        _load(known, split, data_dir)
    if len(prepared) < 2:
        verify_raw(known.archives, data_dir)


def expected_sha256(known: Dataset, split: str) -> str | None:
    """The digest that a record must name its data by; None where it is not known.

    That of a user's own images is what they are now, so that records of what they were are made again.
    """
    if known.source is None or known.sha256:
        return known.sha256.get(split)
    return _source_sha256(known.source, split, own.changed(known.source.path))


@lru_cache(maxsize=64)
def _source_sha256(source: DataSource, split: str, when: tuple[int, ...]) -> str:
    return sha256(*_as_prepared(*source.read(split)))


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
    if known.source and (why := own.reason(known.source, path.parent)):
        raise UserError(f"{path} does not count: {why}; delete {path.parent} and run snakemake again")
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
    return _as_prepared(*known.read(data_dir, split))


def _as_prepared(images: ArrayLike, labels: ArrayLike) -> tuple[ndarray, ndarray]:
    import numpy as np

    return np.ascontiguousarray(images, dtype=np.uint8), np.ascontiguousarray(labels, dtype=np.int64)


def _save(path: Path, images: ndarray, labels: ndarray) -> None:
    from safetensors.numpy import save

    write_atomically(path, save({"images": images, "labels": labels}))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiment.data", description="Prepare a data set.")
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(names())}, or any other of images of your own")
    parser.add_argument(
        "--data-dir", required=True, metavar="DIR", help="folder that holds the raw files, or gets them"
    )
    parser.add_argument("--mirror", nargs="*", default=[], metavar="URL", help="tried before the known mirrors")
    parser.add_argument("--npz", metavar="FILE", help="your own images: as `npz` in a suite")
    parser.add_argument("--images", metavar="FOLDER", help="your own images: as `images` in a suite")
    options = parser.parse_args(arguments)
    with reported(f"data {options.name}"):
        entry: str | DataSource = options.name
        if options.npz or options.images:
            content = {"name": options.name, "npz": options.npz, "images": options.images}
            entry = DataSource.from_mapping(content, f"data set {options.name}")
        prepare(entry, options.data_dir, options.mirror)
        known = dataset(entry, options.data_dir)
    images = f"{known.train_images:,} train + {known.test_images:,} test images"
    print(f"data {options.name}: {images}, {'prepared' if known.source else 'checksums verified'}")


if __name__ == "__main__":
    main()
