"""A checkpoint of the suite, made as the suite makes it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor, nn

from evaluation.run import load_network
from experiment import record
from experiment.data import prepare
from experiment.suite import Run, Suite
from training.run import train

ATTACKS = ["clean", "fgsm", {"name": "pgd-20", "restarts": 2}, "margin-20", {"name": "autoattack", "images": 12}]


@dataclass(frozen=True)
class Checkpoint:
    """A trained run, its folder, and the 360 test images of its data set, (N, 1, 8, 8) in [0, 1], with labels."""

    suite: Suite
    run: Run
    folder: Path
    images: Tensor
    labels: Tensor

    def network(self) -> nn.Module:
        sha256 = record.read(self.folder / "train.json")["weights_sha256"]
        return load_network(self.run, self.folder / "model.safetensors", sha256)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """pgd-7 on digits in the setting of configs/quick.yaml, but 6 epochs."""
    root = tmp_path_factory.mktemp("checkpoint")
    suite = Suite.from_mapping(
        {
            "suite": "checkpoint",
            "datasets": ["digits"],
            "data_dir": str(root / "data"),
            "threads": 1,
            "network": {"name": "small_cnn"},
            "threat": {"eps": 0.1},
            "training": {"epochs": 6, "batch_size": 64, "lr": 0.05, "validation_images": 200},
            "evaluation": {"attacks": ATTACKS},
            "seeds": [0],
            "variants": [{"label": "pgd-7", "method": "pgd"}],
        }
    )
    prepare("digits", str(root / "data"))
    run = next(suite.runs())
    folder = root / "results" / suite.name / run.folder
    folder.mkdir(parents=True)
    train(suite, run, folder)
    images, labels = suite.load_split("digits", "test")
    return Checkpoint(suite, run, folder, images.float().div(255), labels)
