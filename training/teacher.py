"""The network that another is taught by: a checkpoint of the same suite, with what it is and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiment import models, record, weights
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError
from experiment.models.network import Network
from training.counts import ordinary_flops

if TYPE_CHECKING:
    from experiment.suite import Run

COSTS = ("seconds", "compute", "passes", "forwards", "updates", "disturbed")


@dataclass(frozen=True)
class Teacher:
    """network: frozen, in evaluation mode; described: variant, weights_sha256 and cost, as in a student's record.

    Its compute is in ordinary epochs of the student's network.
    """

    network: Network
    described: dict[str, Any]

    @property
    def weights_sha256(self) -> str:
        return self.described["weights_sha256"]


def load(run: Run, dataset: Dataset, folder: Path, student: Run, device: torch.device) -> Teacher:
    """The teacher that training `run` left in `folder`. student: the run that is to learn from it.

    Raises UserError where it was not trained yet, or diverged, or has other features, or weights that its record does
    not name.
    """
    if not (folder / "train.json").exists():
        raise UserError(f"its teacher {run.folder} is not trained; train that first (snakemake does)")
    trained = record.read(folder / "train.json")
    if trained["status"] == "diverged":
        raise UserError(f"its teacher {run.folder} diverged, so that nothing is to be learnt from it; name another")
    network = models.of_run(run.spec, dataset)
    taught = models.of_run(student.spec, dataset)
    of_teacher, own = network.classifier.in_features, taught.classifier.in_features
    if of_teacher != own:
        raise UserError(f"its teacher {run.folder} has {of_teacher} features and it has {own}; they must be as many")
    network.load_state_dict(weights.load(folder / "model.safetensors", trained["weights_sha256"]))
    network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    cost = {key: trained["cost"][key] for key in COSTS}
    images = torch.zeros(2, *dataset.shape)  # batch norm takes no fewer
    cost["compute"] *= ordinary_flops(models.of_run(run.spec, dataset), images) / ordinary_flops(taught, images)
    return Teacher(network, {"variant": run.variant, "weights_sha256": trained["weights_sha256"], "cost": cost})
