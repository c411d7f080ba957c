"""Values that a method keeps for every training image, such as a perturbation that its next epoch begins with.

A store is a tensor of `Method.state`, made in `Method.begin` and changed in place, so that it is checkpointed. One of
the network's coordinates has a row an image. One of padded coordinates, (N, C, H + 8, W + 8), follows the image through
random crops and flips: what is written at a crop is read at another crop where both show the same pixels (ATTA, Zheng
et al., 2020). 50,000 images of 3x32x32 are 614 MB in float32 in the one, 960 MB in the other, half of that in float16,
whose values have to be projected anew when they are read.
"""

import torch
from torch import Tensor

from methods.batch import PADDING, Batch


def read(store: Tensor, batch: Batch) -> Tensor:
    """The rows of the minibatch's images, (B, ...), in the images' precision. store: (N, ...)."""
    return store[batch.index].to(batch.images.dtype)


def write(store: Tensor, batch: Batch, value: Tensor) -> None:
    """Put `value`, (B, ...), into the rows of the minibatch's images."""
    store[batch.index] = value.detach().to(store.dtype)


def padded_shape(images: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a store in padded coordinates. shape: (C, H, W) of an image."""
    channels, height, width = shape
    return images, channels, height + 2 * PADDING, width + 2 * PADDING


def read_padded(store: Tensor, batch: Batch) -> Tensor:
    """What lies where the minibatch's crops lie, flipped as they are: (B, C, H, W). store: of `padded_shape`."""
    rows, columns = _window(batch)
    found = store[batch.index[:, None, None], :, rows, columns]  # (B, H, W, C)
    return found.permute(0, 3, 1, 2).to(batch.images.dtype).contiguous()


def write_padded(store: Tensor, batch: Batch, value: Tensor) -> None:
    """Put `value`, (B, C, H, W), back there, flipped as the images were; what lies outside the crops stays."""
    rows, columns = _window(batch)
    store[batch.index[:, None, None], :, rows, columns] = value.detach().permute(0, 2, 3, 1).to(store.dtype)


def _window(batch: Batch) -> tuple[Tensor, Tensor]:
    """Rows (B, H, 1) and columns (B, 1, W) of the padded image that each pixel of a crop shows."""
    height, width = batch.images.shape[2:]
    rows = batch.shifts[0, :, None] + torch.arange(height, device=batch.index.device)
    columns = torch.arange(width, device=batch.index.device).expand(len(batch), width)
    columns = batch.shifts[1, :, None] + columns.flip(1).where(batch.flips[:, None], columns)
    return rows[:, :, None], columns[:, None, :]
