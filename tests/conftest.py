from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from evaluation.run import load_network
from experiment import record
from experiment.data import dataset, prepare
from experiment.suite import Run, Suite
from training.run import train

torch.set_num_threads(1)  # the tensors of the tests are small, and the machine is often shared

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")

# The kinds of fault that public bug reports describe; `@pytest.mark.fault(kind)` names what a test is for.
FAULTS = {
    "restart": "an interrupted, failed, killed or partly deleted suite is not finished by the same command",
    "copy": "results that were copied, touched or moved are lost, or made again",
    "stale": "what made a number changes, and the number stays",
    "weak": "a run that is not robust, or an attack that fails, is reported as a result",
    "clock": "seconds that were taken on a busy machine are compared",
    "version": "another version of PyTorch, or another thread count, changes the numbers in silence",
    "data": "other data than the publisher's are trained or attacked",
    "place": "it runs only in some folders, from some folders, or from some shells",
    "input": "bad input ends in a traceback, after the work, or in an exit status of 0",
    "file": "a damaged, foreign or hostile file ends in a traceback, or harms other files",
}


def pytest_configure(config):
    """`pytest` alone runs the fast tests; one that is told a file, a folder or a marker runs all of those."""
    if not config.option.markexpr and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.option.markexpr = "fast"


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") is None and item.get_closest_marker("workflow") is None:
            item.add_marker("fast")
        for marker in item.iter_markers("fault"):
            if set(marker.args) - set(FAULTS):
                raise pytest.UsageError(f"{item.nodeid}: the kinds of fault are {', '.join(FAULTS)}")
        if item.get_closest_marker("needs_gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    report.faults = sorted({kind for marker in item.iter_markers("fault") for kind in marker.args})
    return report


def pytest_terminal_summary(terminalreporter):
    passed = Counter(kind for report in terminalreporter.getreports("passed") for kind in report.faults)
    failed = Counter(kind for report in terminalreporter.getreports("failed") for kind in report.faults)
    if passed or failed:
        terminalreporter.section("kinds of fault that would be seen")
        for kind, fault in FAULTS.items():
            count = f"{passed[kind]} tests passed" + (f", {failed[kind]} failed" if failed[kind] else "")
            terminalreporter.line(f"{kind:8} {count:>16}: {fault}")


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
        return load_network(self.run, dataset("digits"), self.folder / "model.safetensors", sha256)


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
