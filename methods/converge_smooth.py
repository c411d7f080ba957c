"""ConvergeSmooth (ICCV 2023): a term that keeps the loss of clean images near its mean over the epoch before.

The mean is a tensor of `Method.state`, (3,): the loss and the images summed over this epoch so far, and the mean.
"""

import torch
from torch import Tensor

from methods.batch import Batch, Position

EPOCHS, DROPS = 110, (0, 100, 105, 110)  # the authors' run, and where its rate drops


def holds(position: Position) -> float:
    """Whether the term is there, 1 or 0: not next to a drop of the rate. The authors' drops, scaled with the run."""
    drops = [drop * position.epochs / EPOCHS for drop in DROPS]
    return float(any(a + 1 < position.epoch < b - 1 for a, b in zip(drops, drops[1:], strict=False)))


def begin(where: torch.device) -> Tensor:
    """The state of a run that begins."""
    return torch.zeros(3, device=where)


def begin_epoch(kept: Tensor) -> None:
    """Make the mean of what the epoch before summed."""
    summed, images, mean = kept.unbind()
    mean.copy_(torch.where(images > 0, summed / images.clamp(min=1), mean))
    kept[:2] = 0


def term(kept: Tensor, clean: Tensor, batch: Batch, band: float) -> Tensor:
    """The loss `clean` of the minibatch, up or down, where it is further than `band` from the mean; else 0.

    The minibatch has what `holds` says of it among its scalars, as `smooth`.
    """
    above = clean.detach() - kept[2]
    kept[0] += clean.detach() * len(batch)
    kept[1] += len(batch)
    return batch.scalars["smooth"] * (clean * above.sign() * (above.abs() > band))
