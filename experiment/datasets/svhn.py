"""SVHN (Netzer et al., 2011), cropped: digits of house numbers, 32 x 32 pixels, colour."""

from pathlib import Path

from experiment.datasets.dataset import Arrays, Dataset
from experiment.download import Archive


def _read(data_dir: Path, split: str) -> Arrays:
    from torchvision.datasets import SVHN

    raw = SVHN(data_dir, split, download=False)
    return raw.data, raw.labels


# The publisher could not be reached to make the digests of the prepared files.
DATASET = Dataset(
    name="svhn",
    classes=10,
    shape=(3, 32, 32),
    train_images=73_257,
    test_images=26_032,
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    augmentation="crop",  # a flipped 2 is no 2
    class_names=tuple("0123456789"),
    read=_read,
    archives=(
        Archive("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        Archive("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    ),
    mirrors=("http://ufldl.stanford.edu/housenumbers/",),
)
