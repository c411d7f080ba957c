"""Fashion-MNIST (Xiao et al., 2017): clothes, 28 x 28 pixels, grey."""

from pathlib import Path

from experiment.datasets.dataset import Arrays, Dataset
from experiment.download import Archive

FOLDER = "FashionMNIST/raw"


def _archive(name: str, md5: str, unpacked_md5: str) -> Archive:
    return Archive(f"{name}.gz", md5, FOLDER, {f"{FOLDER}/{name}": unpacked_md5})


def _read(data_dir: Path, split: str) -> Arrays:
    # The readers instead of the class, which prefers unverified files of old torchvision versions if it finds them.
    from torchvision.datasets import mnist

    stem = data_dir / FOLDER / {"train": "train", "test": "t10k"}[split]
    images = mnist.read_image_file(f"{stem}-images-idx3-ubyte").unsqueeze(1)
    return images, mnist.read_label_file(f"{stem}-labels-idx1-ubyte")


DATASET = Dataset(
    name="fashion_mnist",
    classes=10,
    shape=(1, 28, 28),
    train_images=60_000,
    test_images=10_000,
    mean=(0.2860,),
    std=(0.3530,),
    augmentation="none",
    class_names=("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    read=_read,
    archives=(  # the publisher gives no MD5 of the unpacked files; these are those of the unpacked official archives
        _archive("train-images-idx3-ubyte", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        _archive("train-labels-idx1-ubyte", "25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
        _archive("t10k-images-idx3-ubyte", "bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
        _archive("t10k-labels-idx1-ubyte", "bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
    ),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://dataset.bj.bcebos.com/fashion_mnist/",
    ),
    sha256={
        "train": "a83bca8848d795088008379abaf3d0c0a9a78838807db55643e49638e2c13c56",
        "test": "32d9b437b4b0fe2d08c36eed26df72f2aa1f41ec8085b521df7a3fa49e7a5b02",
    },
)
