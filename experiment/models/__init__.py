"""Networks by name: every module of this folder but `network` and `activations` is one architecture, found by its file.

Importing this package does not import torch, so that a suite can be checked in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiment import plugins
from experiment.errors import UserError
from experiment.plugins import ACTIVATIONS

if TYPE_CHECKING:
    from experiment.datasets.dataset import Dataset
    from experiment.models.network import Network


def names() -> tuple[str, ...]:
    """The architectures that `build` knows, in alphabetical order."""
    return tuple(plugins.names("network"))


def check_shape(name: str, shape: tuple[int, int, int]) -> None:
    """Raise UserError if the architecture does not take images of this shape, (C, H, W)."""
    height, width = shape[1:]
    smallest = plugins.facts_of("network", name).attributes.get("smallest", 1)
    if min(height, width) < smallest:
        raise UserError(
            f"{name} needs images of {smallest}x{smallest} pixels or more; these are {height}x{width}: "
            "use small_cnn or preact_resnet18"
        )


def build(
    name: str,
    *,
    classes: int,
    shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    activation: str = "relu",
    seed: int,
    **parameters: Any,
) -> Network:
    """A new network on the CPU, in training mode.

    Its weights depend on name, classes, shape, activation, parameters and seed alone; no random state of the caller
    is touched.

    Args:
        shape: (C, H, W) of an image.
        mean, std: one number a channel, of images in [0, 1].
        parameters: the architecture's own.

    Raises:
        UserError: the name or the activation is unknown, or the architecture does not take images of this shape.
    """
    if name not in names():
        raise UserError(f"Unknown network '{name}'; known networks: {', '.join(names())}.")
    if activation not in ACTIVATIONS:
        raise UserError(f"Unknown activation '{activation}'; known activations: {', '.join(ACTIVATIONS)}.")
    check_shape(name, shape)

    import torch

    from experiment.models.activations import CLASSES

    architecture = plugins.load("network", name)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed: it would seed the GPUs too, whose state fork_rng does not put back here.
        torch.default_generator.manual_seed(seed)
        return architecture(
            classes=classes,
            shape=shape,
            mean=mean,
            std=std,
            activation=CLASSES[activation],
            **parameters,
        )


def of_run(spec: Mapping[str, Any], dataset: Dataset) -> Network:
    """The network that a resolved run (experiment.suite.Run.spec) on a data set starts from, as `build` makes it."""
    network = spec["network"]
    return build(
        network["name"],
        classes=dataset.classes,
        shape=dataset.shape,
        mean=dataset.mean,
        std=dataset.std,
        seed=spec["seed"],
        **{key: value for key, value in network.items() if key != "name"},
    )
