"""The network that another is taught by: a checkpoint of the same suite, with what it is and what it cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiment import models, record, weights
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError
from experiment.models.network import Network
from experiment.suite import Run

COSTS = ("seconds", "compute", "passes", "forwards", "updates", "disturbed")


@dataclass(frozen=True)
class Teacher:
    """network: frozen, in evaluation mode; described: variant, weights_sha256 and cost, as in a student's record."""

    network: Network
    described: dict[str, Any]


def load(run: Run, dataset: Dataset, folder: Path, device: torch.device) -> Teacher:
    """The teacher that training `run` left in `folder`.

    Raises UserError where it was not trained yet, or diverged, or its weights are not those that its record names.
    """
    if not (folder / "train.json").exists():
        raise UserError(f"its teacher {run.folder} is not trained; train that first (snakemake does)")
    trained = record.read(folder / "train.json")
    if trained["status"] == "diverged":
        raise UserError(f"its teacher {run.folder} diverged, so that nothing is to be learnt from it; name another")
    network = models.of_run(run.spec, dataset)
    network.load_state_dict(weights.load(folder / "model.safetensors", trained["weights_sha256"]))
    network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    cost = {key: trained["cost"][key] for key in COSTS}
    return Teacher(network, {"variant": run.variant, "weights_sha256": trained["weights_sha256"], "cost": cost})
