"""What training executes, counted: floating-point operations, images through the network and updates of its weights."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@dataclass
class Spent:
    """What has been executed.

    flops: floating-point operations; forwards, backwards: of one image through the whole network, those of a minibatch
    of N images being N; updates: of the weights.
    """

    flops: int = 0
    forwards: int = 0
    backwards: int = 0
    updates: int = 0

    as_dict = asdict

    def since(self, before: "Spent") -> "Spent":
        """What was spent after `before`, a copy made then."""
        return Spent(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    def add(self, other: "Spent") -> None:
        """Count what `other` holds too."""
        self.set(Spent(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self))))

    def set(self, other: "Spent") -> None:
        """Hold what `other` holds. Hooks of the network count into this object, so that it is never replaced."""
        for field in fields(self):
            setattr(self, field.name, getattr(other, field.name))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Count nothing of what happens inside, which is not training."""
        before = Spent(**self.as_dict())
        try:
            yield
        finally:
            self.set(before)


def count_passes(network: nn.Module, spent: Spent) -> None:
    """Count into `spent` every image that goes forward through `network`, and every gradient that comes back.

    They are counted where the penultimate features (N, D) leave the body: all paths through the network but those of
    its first layer alone lead there, whoever calls it, and a copy of two minibatches in one counts as two. A copy of
    the network (a teacher, an average) is another network.
    """
    body = weakref.ref(network.body)

    def came_back(gradient: Tensor) -> None:
        spent.backwards += len(gradient)

    def left(module: nn.Module, inputs: tuple[Tensor, ...], features: Tensor) -> None:
        if module is body():  # copying a module copies its hooks
            spent.forwards += len(features)
            if features.requires_grad:
                features.register_hook(came_back)

    network.body.register_forward_hook(left)


class FlopCounter(TorchDispatchMode):
    """Counts the floating-point operations of all that PyTorch executes inside, by its own formulas.

    They are those of `torch.utils.flop_counter.FlopCounterMode`, which counts the same and besides tells modules apart:
    the hooks that it sets for that refuse gradients of gradients. Products and convolutions have formulas, 2 operations
    for each multiplication and addition; all else counts nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        operator = function.overloadpacket
        if operator not in flop_registry:
            with self:  # inference mode hands on operators that consist of others
                result = function.decompose(*args, **kwargs)
            return function(*args, **kwargs) if result is NotImplemented else result
        result = function(*args, **kwargs)
        self.flops += flop_registry[operator](*args, **kwargs, out_val=result)
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would import its compiler, which takes seconds, to keep it out of here."""
        return False


def ordinary_flops(network: nn.Module, images: Tensor) -> int:
    """Operations of an ordinary pass of images (N, C, H, W): a forward, and a backward to the weights alone."""
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    with FlopCounter() as counter:
        torch.autograd.grad(F.cross_entropy(network(images), labels), list(network.parameters()))
    return counter.flops
