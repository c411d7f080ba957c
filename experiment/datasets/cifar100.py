"""CIFAR-100 (Krizhevsky, 2009), fine labels: objects in 100 classes, 32 x 32 pixels, colour."""

from pathlib import Path

from experiment.datasets.dataset import Arrays, Dataset
from experiment.download import Archive

CLASS_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""


def _read(data_dir: Path, split: str) -> Arrays:
    # torchvision unpickles these files, which could run any code: only files with the publisher's checksum get here.
    from torchvision.datasets import CIFAR100

    raw = CIFAR100(data_dir, split == "train", download=False)
    return raw.data.transpose(0, 3, 1, 2), raw.targets


# The publisher could not be reached to make the digests of the prepared files.
DATASET = Dataset(
    name="cifar100",
    classes=100,
    shape=(3, 32, 32),
    train_images=50_000,
    test_images=10_000,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    augmentation="crop_flip",
    class_names=tuple(CLASS_NAMES.split()),
    read=_read,
    archives=(
        Archive(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            contents={
                "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
                "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
                "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
            },
        ),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/", "https://dataset.bj.bcebos.com/cifar/"),
)
