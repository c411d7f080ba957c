"""What is noted of an epoch: a row of epochs.csv (analysis/columns.py says what each column means)."""

import math

from torch import nn

from training.validation import Accuracies


def of_validation(validation: Accuracies | None, trained: Accuracies | None) -> dict[str, float | None]:
    """The columns of the network that is evaluated, and of the trained one where that is another."""
    return {
        f"{of}_{attack}_accuracy": getattr(accuracies, attack) if accuracies else None
        for of, accuracies in (("validation", validation), ("trained", trained))
        for attack in ("clean", "fgsm", "pgd")
    }


def line(row: dict) -> str:
    """The row for train.log; what was not measured is left out."""
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}
    return "  ".join(f"{key} {value}" for key, value in shown.items() if value is not None)


def finite(value: float) -> float | None:
    """The value, or None where it is no finite number: records hold none."""
    return value if math.isfinite(value) else None


def diverged(loss: float, network: nn.Module) -> str | None:
    """Why a run cannot go on; an epoch's last update can spoil weights that its loss was finite with."""
    if not math.isfinite(loss):
        return "the training loss is not finite"
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        return "the network's weights are not finite"
    return None
