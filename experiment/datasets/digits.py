"""scikit-learn's copy of the UCI digits: 8 x 8 pixels, 16 grey levels; a suite of seconds, and no download."""

from pathlib import Path

from experiment.datasets.dataset import Arrays, Dataset, fixed_permutation

TRAIN_IMAGES = 1_437


def _read(data_dir: Path, split: str) -> Arrays:
    """The copy has no split of its own; its levels, 0 to 16, are made 0 to 255."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = fixed_permutation(len(digits.target), "digits")
    chosen = order[:TRAIN_IMAGES] if split == "train" else order[TRAIN_IMAGES:]
    return np.rint(digits.images[chosen, None] * 255 / 16), digits.target[chosen]


DATASET = Dataset(
    name="digits",
    classes=10,
    shape=(1, 8, 8),
    train_images=TRAIN_IMAGES,
    test_images=360,
    mean=(0.3059,),
    std=(0.3761,),
    augmentation="none",
    class_names=tuple("0123456789"),
    read=_read,
    sha256={
        "train": "912bdfbf1d0be9000ee288ecc8164ba039a3e0e2ff97c52f1b1488e6925777cb",
        "test": "75982ce750a70480c2d4f1bac9003181bf52732d54a347eba0df9b7cd1beccfa",
    },
)
