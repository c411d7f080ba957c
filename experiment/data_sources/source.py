"""A data set of a user's own: where its images are, what is known of it, and whether what was made of it still counts.

Beside its prepared files lies facts.json: what reading all the images has shown (mean and std of the training images,
digests of both splits), and which files they were made from.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from experiment.data_sources import image_folder, npz
from experiment.data_sources.contents import Contents, Reader
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError
from experiment.fields import Keys, Location, Name, Text, place, sentence
from experiment.files import write_atomically

if TYPE_CHECKING:
    from numpy import ndarray

FACTS = "facts.json"


class DataSource(Keys):
    """A data set that a suite describes by where its images are, in place of the name of a known one."""

    name: Annotated[Name, Field(description="What its results are called by.")]
    npz: Annotated[
        Location | None,
        Field(
            description="File of numpy.savez: train_images and test_images, uint8 (N, H, W), (N, H, W, C) or "
            "(N, C, H, W), and train_labels and test_labels, whole numbers (N,) from 0."
        ),
    ] = None
    images: Annotated[
        Location | None,
        Field(description="Folder of images of one size: `train/<class>/*.png` and `test/<class>/*.png`."),
    ] = None
    augmentation: Annotated[
        Literal["none", "crop", "crop_flip"],
        Field(description="Of training images: random crops of the padded image, and random horizontal flips."),
    ] = "none"
    class_names: Annotated[
        tuple[Text, ...] | None,
        Field(
            strict=False, description="What the labels stand for, in their order; else the folders' names, or numbers."
        ),
    ] = None

    @model_validator(mode="after")
    def _one_path(self) -> DataSource:
        if (self.npz is None) == (self.images is None):
            which = "neither of the keys" if self.npz is None else "both of the keys"
            raise ValueError(f"has {which} npz and images; it must have one")
        return self

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], where: str) -> DataSource:
        """Validate. Raises UserError in one sentence; where: the key of the suite."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise sentence(error, lambda loc: place(loc, where)) from None

    @property
    def written(self) -> str:
        """The path as the suite has it."""
        return self.npz if self.npz is not None else str(self.images)

    @property
    def path(self) -> Path:
        """Of the file or folder, relative to the working directory; a leading ~ is the user's home."""
        return Path(self.written).expanduser()

    def describe(self) -> Contents:
        """What the source holds, without reading its images. Raises UserError where it will not do."""
        return self._reader.describe(self.path)

    def read(self, split: str) -> tuple[ndarray, ndarray]:
        """Images, uint8 (N, C, H, W), and labels (N,)."""
        return self._reader.read(self.path, split)

    def files(self) -> list[Path]:
        """What it is made of."""
        return self._reader.files(self.path)

    @property
    def _reader(self) -> Reader:
        return npz if self.npz is not None else image_folder


def dataset(source: DataSource, folder: Path) -> Dataset:
    """What is known of a source: all of it once its prepared files lie in `folder`, or mean, std and digests missing.

    Raises UserError where the source will not do, or is not there and was never prepared.
    """
    return _dataset(source, folder, changed(folder / FACTS), changed(source.path))


@lru_cache(maxsize=64)
def _dataset(source: DataSource, folder: Path, *when: tuple[int, ...]) -> Dataset:
    prepared = _facts(source, folder)
    if isinstance(prepared, str):
        if not source.path.exists():
            raise UserError(f"data set {source.name}: {source.path} is not there")
        found = source.describe()
        facts: dict[str, Any] = {"mean": (), "std": (), "sha256": {}, **vars(found)}
    else:
        facts = {key: tuple(value) if isinstance(value, list) else value for key, value in prepared.items()}
    names = source.class_names or facts.pop("class_names")
    if len(names) != facts["classes"]:
        raise UserError(f"data set {source.name} has {facts['classes']} classes and {len(names)} class_names")
    return Dataset(
        **{**facts, "class_names": names},
        name=source.name,
        augmentation=source.augmentation,
        read=lambda _, split: source.read(split),
        source=source,
    )


def reason(source: DataSource, folder: Path) -> str | None:
    """Why prepared files in `folder` are not of the source as it is now, as a clause; None where they are."""
    found = _facts(source, folder)
    return found if isinstance(found, str) else None


def state(source: DataSource) -> dict[str, str]:
    """What its files are now: `stamp`, by their names, sizes and times, and `sha256`, by their names and contents."""
    files = source.files()
    digest = hashlib.sha256()
    for name, file in zip(_names(source, files), files, strict=True):
        try:
            with open(file, "rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror})") from None
        digest.update(f"{name!r} {content} ".encode())
    return {"stamp": _stamp(source, files), "sha256": digest.hexdigest()}


def write_facts(
    source: DataSource, folder: Path, before: Mapping[str, str], train_images: ndarray, sha256: Mapping[str, str]
) -> None:
    """Write facts.json in `folder`. before: `state` before the images were read; sha256: of both splits.

    Raises UserError where the source has changed meanwhile, or a channel of the training images is constant.
    """
    if _stamp(source, source.files()) != before["stamp"]:
        raise UserError(f"{source.path} changed while it was read; run snakemake again once it is complete")
    mean, std = mean_and_std(train_images)
    if 0 in std:
        raise UserError(f"{source.path}: channel {std.index(0)} of the training images has one value everywhere")
    found = source.describe()
    facts = {**vars(found), "mean": mean, "std": std, "sha256": dict(sha256), "source": dict(before)}
    text = json.dumps({"facts": facts, "checksum": _checksum(facts)}, indent=1)
    write_atomically(folder / FACTS, f"{text}\n".encode())


def mean_and_std(images: ndarray) -> tuple[list[float], list[float]]:
    """Of each channel of uint8 images (N, C, H, W), in [0, 1] pixel units, to four digits, as they are published."""
    import numpy as np

    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), 1000):  # bincount takes eight bytes a pixel
            counts += np.bincount(images[start : start + 1000, channel].ravel(), minlength=256)
        # Whole numbers have no rounding, so that no machine finds other digits.
        count, total = int(counts.sum()), sum(value * int(times) for value, times in enumerate(counts))
        squares = sum(value**2 * int(times) for value, times in enumerate(counts))
        mean.append(round(total / count / 255, 4))
        std.append(round(((count * squares - total**2) / (count * max(count - 1, 1))) ** 0.5 / 255, 4))
    return mean, std


def _facts(source: DataSource, folder: Path) -> dict[str, Any] | str:
    """What facts.json says, or why it does not count, as a clause."""
    path = folder / FACTS
    try:
        content = json.loads(path.read_bytes())
        facts, checksum = content["facts"], content["checksum"]
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, ValueError, TypeError, KeyError):
        return f"{path} is damaged"
    if checksum != _checksum(facts):
        return f"{path} is damaged"
    made_from = facts.pop("source")
    if source.path.exists() and not _is_now(source, made_from):
        return f"{source.path} is not what it was when they were prepared"
    return dict(facts)


def _is_now(source: DataSource, made_from: Mapping[str, str]) -> bool:
    if made_from["stamp"] == _stamp(source, source.files()):
        return True
    return made_from["sha256"] == state(source)["sha256"]  # then it was only copied or touched


def _checksum(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _names(source: DataSource, files: Iterable[Path]) -> list[str]:
    return [os.path.relpath(file, source.path) for file in files]


def _stamp(source: DataSource, files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for name, file in zip(_names(source, files), files, strict=True):
        about = file.stat()
        digest.update(f"{name!r} {about.st_size} {about.st_mtime_ns} ".encode())
    return digest.hexdigest()


def changed(path: Path) -> tuple[int, ...]:
    """When a file was changed, or the folders of a folder: another tuple is a reason to look at all of its files."""
    try:
        places = [path, *path.glob("*/"), *path.glob("*/*/")] if path.is_dir() else [path]
        return tuple(place.stat().st_mtime_ns for place in places)
    except OSError:
        return ()
