"""The data sets: what they are, their verified and prepared files, and the split that every run shares.

python -m experiment.data NAME --data-dir DIR [--mirror URL ...]
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.download import fetch, missing_raw, verify_raw
from experiment.errors import UserError, reported
from experiment.files import write_atomically

if TYPE_CHECKING:  # the Snakefile imports this module at every start, and torch would cost it seconds
    from torch import Tensor


@dataclass(frozen=True)
class Dataset:
    """A classification data set.

    classes: number of classes; labels are 0..classes-1.
    shape: (channels, height, width) of an image.
    train_images, test_images: how many images the two splits have.
    mean, std: of each channel over the training images, in [0, 1] pixel units.
    augmentation: "none", "crop" (random crop of the padded image) or "crop_flip" (and a random horizontal flip).
    class_names: what each label stands for.
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


_NUMERALS = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR100_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
_DIGITS = Dataset("digits", 10, (1, 8, 8), 1_437, 360, (0.3059,), (0.3761,), "none", _NUMERALS)
_FASHION_MNIST = Dataset("fashion_mnist", 10, (1, 28, 28), 60_000, 10_000, (0.2860,), (0.3530,), "none", _CLOTHES)
_CIFAR10 = Dataset(
    name="cifar10",
    classes=10,
    shape=(3, 32, 32),
    train_images=50_000,
    test_images=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2471, 0.2435, 0.2616),
    augmentation="crop_flip",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
_CIFAR100 = Dataset(
    name="cifar100",
    classes=100,
    shape=(3, 32, 32),
    train_images=50_000,
    test_images=10_000,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    augmentation="crop_flip",
    class_names=tuple(_CIFAR100_NAMES.split()),
)
_SVHN = Dataset(
    name="svhn",
    classes=10,
    shape=(3, 32, 32),
    train_images=73_257,
    test_images=26_032,
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    augmentation="crop",  # a flipped 2 is no 2
    class_names=_NUMERALS,
)
DATASETS = {dataset.name: dataset for dataset in (_DIGITS, _FASHION_MNIST, _CIFAR10, _CIFAR100, _SVHN)}

# The digests of prepared files, so that a new version of a library that reads the raw files cannot change the data.
# The publishers of CIFAR-100 and SVHN could not be reached to make theirs, which are taken from the verified raw files.
PREPARED_SHA256 = {
    ("digits", "train"): "912bdfbf1d0be9000ee288ecc8164ba039a3e0e2ff97c52f1b1488e6925777cb",
    ("digits", "test"): "75982ce750a70480c2d4f1bac9003181bf52732d54a347eba0df9b7cd1beccfa",
    ("fashion_mnist", "train"): "a83bca8848d795088008379abaf3d0c0a9a78838807db55643e49638e2c13c56",
    ("fashion_mnist", "test"): "32d9b437b4b0fe2d08c36eed26df72f2aa1f41ec8085b521df7a3fa49e7a5b02",
    ("cifar10", "train"): "a25c0ecc0c304824bd8ea22eb3b85a788b530182ef77e79fe6fe6eb0ecac45f5",
    ("cifar10", "test"): "2464d1a12be9daa192b8c315ef0f5aca47b30b988d368e2fb17d82477ef7d348",
}


def prepare(name: str, data_dir: str | Path, mirrors: Sequence[str] = ()) -> None:
    """Write the prepared files of a data set's two splits from verified raw files.

    Each file holds `images`, uint8 (N, C, H, W), and `labels`, int64 (N,).
    mirrors: addresses tried before those of mirrors.yaml when the raw files are absent.
    Raises UserError for an unknown name, damaged raw files, and raw files that are absent and not to be had.
    """
    if name not in DATASETS:
        raise UserError(f"data set {name!r} is not known; the data sets are {', '.join(sorted(DATASETS))}")
    verify_raw(name, data_dir)
    fetch(name, data_dir, mirrors)
    for split in ("train", "test"):
        images, labels = _read(name, Path(data_dir), split)
        found = sha256(images, labels)
        problem = _misfit(DATASETS[name], split, images, labels)
        if found != (pinned := PREPARED_SHA256.get((name, split), found)):
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

    Raises UserError when the prepared file is missing or does not hold the data set: its digest must be the known one,
    or, where none is known, that of the raw files, which must then be there and have the publisher's checksums.
    """
    from safetensors import SafetensorError, safe_open

    path = prepared_file(name, split, data_dir)
    try:
        with safe_open(path, framework="pt") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run snakemake, which prepares it") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); delete it and run snakemake again"
        ) from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run snakemake again") from None
    problem = _misfit(DATASETS[name], split, images, labels)
    if not problem and (found := sha256(images, labels)) != (wanted := _wanted_sha256(name, split, data_dir)):
        problem = f"its tensors have SHA-256 {found} instead of {wanted}"
    if problem:
        raise UserError(f"{path} is not the {split} split of {name}: {problem}; delete it and run snakemake again")
    return images, labels


def sha256(images: Tensor, labels: Tensor) -> str:
    """SHA-256 of the types, shapes and values of a split: what records name the data by."""
    digest = hashlib.sha256()
    for tensor in (images, labels):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _misfit(dataset: Dataset, split: str, images: Tensor, labels: Tensor) -> str | None:
    """Why these cannot be the split, as a clause; None where their types, shapes and labels are the data set's."""
    import torch

    count = dataset.train_images if split == "train" else dataset.test_images
    for what, tensor, dtype, shape in (
        ("images", images, torch.uint8, (count, *dataset.shape)),
        ("labels", labels, torch.int64, (count,)),
    ):
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            return f"the {what} are {tensor.dtype} {tuple(tensor.shape)} instead of {dtype} {shape}"
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= dataset.classes:
        return f"the labels reach from {low} to {high} instead of from 0 to {dataset.classes - 1}"
    return None


def _wanted_sha256(name: str, split: str, data_dir: str | Path) -> str:
    """The digest that the split must have: the known one, or that of the verified raw files."""
    if (name, split) in PREPARED_SHA256:
        return PREPARED_SHA256[name, split]
    if absent := missing_raw(name, data_dir):
        raise UserError(
            f"{name}: no digest of its prepared files is known, so that they count only beside the raw files, and "
            f"{Path(data_dir) / absent[0]} is missing; put it there, or delete the prepared files and run snakemake "
            "again"
        )
    verify_raw(name, data_dir)
    return sha256(*_read(name, Path(data_dir), split))


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
    order = _fixed_permutation(len(images), "validation")
    validation, train = order[:validation_images], order[validation_images:][:train_images]
    return images[train], labels[train], images[validation], labels[validation]


def _fixed_permutation(count: int, purpose: str) -> list[int]:
    # Sorting by hashes gives the same order on every version of every library, which no random generator promises.
    return sorted(range(count), key=lambda index: hashlib.sha256(f"{purpose} {index}".encode()).digest())


def _read(name: str, data_dir: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images, uint8 (N, C, H, W), and labels, int64 (N,), of a split, from raw files that have been verified."""
    import torch

    images, labels = _read_digits(split) if name == "digits" else _read_raw(name, data_dir, split)
    return torch.tensor(images, dtype=torch.uint8), torch.tensor(labels, dtype=torch.int64)


def _read_raw(name: str, data_dir: Path, split: str):
    from torchvision import datasets

    if name == "fashion_mnist":
        # The readers instead of the class, which prefers unverified files of old torchvision versions if it finds them.
        stem = data_dir / "FashionMNIST" / "raw" / {"train": "train", "test": "t10k"}[split]
        images = datasets.mnist.read_image_file(f"{stem}-images-idx3-ubyte").unsqueeze(1).numpy()
        return images, datasets.mnist.read_label_file(f"{stem}-labels-idx1-ubyte").numpy()
    if name == "svhn":
        raw = datasets.SVHN(data_dir, split, download=False)
        return raw.data, raw.labels
    # torchvision unpickles these files, which could run any code: only files with the publisher's checksum get here.
    raw = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name](data_dir, split == "train", download=False)
    return raw.data.transpose(0, 3, 1, 2), raw.targets


def _read_digits(split: str):
    """scikit-learn's copy of the UCI digits, which has no split of its own: 16 grey levels, made 0..255."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = _fixed_permutation(len(digits.target), "digits")
    train_images = DATASETS["digits"].train_images
    chosen = order[:train_images] if split == "train" else order[train_images:]
    return np.rint(digits.images[chosen, None] * 255 / 16), digits.target[chosen]


def _save(path: Path, images: Tensor, labels: Tensor) -> None:
    from safetensors.torch import save

    write_atomically(path, save({"images": images.contiguous(), "labels": labels}))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiment.data", description="Prepare a data set.")
    parser.add_argument("name", metavar="NAME", help=", ".join(DATASETS))
    parser.add_argument(
        "--data-dir", required=True, metavar="DIR", help="folder that holds the raw files, or gets them"
    )
    parser.add_argument("--mirror", nargs="*", default=[], metavar="URL", help="tried before the known mirrors")
    options = parser.parse_args(arguments)
    with reported(f"data {options.name}"):
        prepare(options.name, options.data_dir, options.mirror)
    dataset = DATASETS[options.name]
    images = f"{dataset.train_images:,} train + {dataset.test_images:,} test images"
    print(f"data {options.name}: {images}, checksums verified")


if __name__ == "__main__":
    main()
