"""The usual loop: adversarial training as the field's repositories write it, the baseline of `benchmarks.training`.

Images stay in NCHW and fp32, a DataLoader with two workers runs torchvision's transforms on PIL images, the attack
calls `loss.backward()` and so pays for gradients of the weights that are thrown away, SGD is the plain one, and loss
and accuracy are fetched with `.item()` after every minibatch. Methods are the suite's own, so that both loops make the
same passes; the magnitude of M+ is left out.
"""

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from methods.batch import PADDING, Batch

WORKERS = 2


class Pictures(Dataset):
    """uint8 images (N, C, H, W) and labels (N,), each image a PIL image that `transform` is called with."""

    def __init__(self, images: Tensor, labels: Tensor, transform):
        self._arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels, self._transform = labels.tolist(), transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        array = self._arrays[index]
        return self._transform(Image.fromarray(array if array.shape[2] > 1 else array[:, :, 0])), self._labels[index]


def loader(
    images: Tensor, labels: Tensor, batch_size: int, augmentation: str, pin_memory: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches (B, C, H, W) in [0, 1] and labels (B,) without end, made by worker processes ahead of their use."""
    steps = [transforms.ToTensor()]
    if augmentation == "crop_flip":
        steps.insert(0, transforms.RandomHorizontalFlip())
    if augmentation != "none":
        steps.insert(0, transforms.RandomCrop(images.shape[2:], padding=PADDING))
    pictures = Pictures(images, labels, transforms.Compose(steps))
    endless = RandomSampler(pictures, replacement=True, num_samples=2**40)
    return iter(DataLoader(pictures, batch_size, sampler=endless, num_workers=WORKERS, pin_memory=pin_memory))


class UsualLearner:
    """What a method is handed in the usual loop; the interface of `training.learner.Learner`, the usual ways inside."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, crafting_batch_norm: str):
        self.network, self.optimizer = network, optimizer
        self._crafting_batch_norm = crafting_batch_norm
        self._partial = False  # whether the last forward went through the first layer only

    def __call__(self, images: Tensor) -> Tensor:
        self._partial = False
        return self.network(images)

    def craft(self, images: Tensor) -> Tensor:
        if self._crafting_batch_norm == "train":
            return self(images)
        self.network.eval()
        logits = self(images)
        self.network.train()
        return logits

    def first_layer(self, images: Tensor) -> Tensor:
        self._partial = True
        return self.network.first_layer(images)

    def rest(self, hidden: Tensor) -> Tensor:
        self._partial = False
        return self.network.rest(hidden)

    def input_gradient(self, loss: Tensor, delta: Tensor) -> Tensor:
        if self._partial:  # YOPO's authors ask for this one alone
            return torch.autograd.grad(loss, delta)[0]
        loss.backward()
        return delta.grad

    def minimise(self, objective) -> None:
        self.descend(*objective())

    def descend(self, loss: Tensor, logits: Tensor, delta: Tensor | None = None) -> Tensor | None:
        self.optimizer.zero_grad()
        gradient = self.accumulate(loss, logits, delta)
        self.optimizer.step()
        return gradient

    def accumulate(self, loss: Tensor, logits: Tensor | None = None, wrt: Tensor | None = None) -> Tensor | None:
        if wrt is not None and not wrt.is_leaf:
            wrt.retain_grad()
        loss.backward()
        if logits is not None:
            self.loss, self.logits = loss, logits
        return None if wrt is None else wrt.grad

    def update(self, lr_scale: float = 1) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] *= lr_scale
        self.optimizer.step()
        self.optimizer.zero_grad()
        for group in self.optimizer.param_groups:
            group["lr"] /= lr_scale


def batch_of(images: Tensor, labels: Tensor) -> Batch:
    """Images (N, C, H, W) in [0, 1] and labels (N,) as a minibatch of which nobody knows whence it comes."""
    index = torch.arange(len(labels), device=labels.device)
    return Batch(images, labels, index, index.new_full((2, len(labels)), PADDING), torch.zeros_like(index).bool())


class UsualLoop:
    """Trains `network` with `method` at `effort` on minibatches of `pictures` (an endless `loader`)."""

    def __init__(self, network: nn.Module, method, effort, training: dict, pictures, device: torch.device):
        self.network = network.to(device).train()
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=training["lr"],
            momentum=training["optimizer"]["momentum"],
            weight_decay=training["optimizer"]["weight_decay"],
        )
        self._learner = UsualLearner(self.network, optimizer, training["crafting_batch_norm"])
        self._method, self._effort, self._pictures, self._device = method, effort, pictures, device

    def train(self, minibatches: int) -> tuple[float, float]:
        """Mean loss and accuracy over so many minibatches."""
        loss = correct = count = 0
        for _ in range(minibatches):
            images, labels = next(self._pictures)
            images, labels = images.to(self._device), labels.to(self._device)
            self._method.train_batch(self._learner, batch_of(images, labels), self._effort)
            loss += self._learner.loss.item() * len(labels)
            correct += (self._learner.logits.max(1)[1] == labels).sum().item()
            count += len(labels)
        return loss / count, correct / count
