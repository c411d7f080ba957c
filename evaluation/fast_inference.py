"""What makes the search for adversarial images faster: another form of the network, batches that fit, TF32 on a GPU.

Nothing found here counts before the network itself, in fp32, has confirmed it (`verify.verify`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

Found = TypeVar("Found")

CACHE = 16 * 2**20  # bytes that a batch's largest activation may have on a CPU: larger ones were slower
SMALL = 16  # pixels: reordering smaller images into channels last costs more than it saves


def searched(network: nn.Module, images: Tensor) -> nn.Module:
    """The same function of such images, (N, C, H, W), up to rounding, but cheaper.

    Batch norms are folded into the convolutions before them, and the weights laid out channels last. A network that
    cannot be traced, or whose trace is another function, is returned as it is.
    """
    few = images[: min(2, len(images))]
    try:
        with torch.no_grad():
            folded = fuse(network)
            wanted, found = network(few), folded(few)
    except Exception:  # tracing runs a network's own code with stand-ins for tensors, which may do whatever it does
        return network
    # More than TF32's rounding; what counts is the network's own verdict.
    if found.shape != wanted.shape or (found - wanted).abs().max() > 0.05 * wanted.abs().max():
        return network
    return folded if min(images.shape[2:]) < SMALL else folded.to(memory_format=torch.channels_last)


def batch_size(network: nn.Module, images: Tensor) -> int:
    """How many of the images, (N, C, H, W), to show the network at a time.

    On a GPU all (`fitting` halves what does not fit); on a CPU as many as keep the largest activation in its cache.
    """
    if images.device.type == "cuda" or len(images) == 0:
        return max(1, len(images))
    largest = images[0].nbytes

    def note(module, inputs, output):
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.nbytes)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return min(len(images), max(1, CACHE // largest))


def fitting(work: Callable[[int], Found], batch_size: int) -> Found:
    """What `work` returns for that batch size, or for the first half, quarter, ... for which a GPU's memory suffices.

    Raises torch.OutOfMemoryError where it does not suffice for one image.
    """
    while True:
        try:
            return work(batch_size)
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
        batch_size //= 2
        torch.cuda.empty_cache()


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """TF32 in products of matrices and convolutions of a GPU for a while; nothing on a CPU, which has none."""
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
