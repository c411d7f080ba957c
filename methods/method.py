"""The contract between a method and the training loop."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiment.effort import Effort
from experiment.models.network import Network
from experiment.threats.threat import Threat
from methods.batch import Batch, Position, Split
from methods.learner import Learner


class Method:
    """How one minibatch becomes weight updates.

    A subclass writes `train_batch` in plain PyTorch and knows nothing of devices, precision or the loop. It must not
    branch on a tensor's value nor call `.item()`, for a GPU runs it from a recording (training/cuda_graphs.py);
    `capturable = False` declares that it does all the same, and is trained step by step. Every image that it shows
    the network must lie within eps of the minibatch's, and inside [0, 1]; `stays_in_ball = False` and
    `stays_in_box = False` declare that its authors' design leaves the one or the other.

    A method that moves perturbations by the threat model alone (`threat.ascend`) and whose paper's steps make sense in
    other norms than L-inf says which in `norms`.

    threat: the threat model; its perturbations come back ready to be differentiated. A gradient that passes through the
        box goes through `threat.clip`: what `clamp` has for one depends on the version of PyTorch.
    label_smoothing: of the protocol: the share of a target that all classes divide, in crafting as in the update.
    options: the method's own, from its defaults.yaml and the variant; a subclass has them as attributes, and may say
        of which type they are.
    teacher: of a method that needs one, the other variant's network: frozen, in evaluation mode.
    state: tensors that live across minibatches, by name, made in `begin` or in the first and changed in place from then
        on; what is in it is checkpointed.
    """

    capturable = True
    choices: ClassVar[
        dict[str, tuple[str, ...]]
    ] = {}  # the values that an option may have, for options that are one of a few words
    ranges: ClassVar[
        dict[str, tuple[float, float]]
    ] = {}  # (least, most) of each option that is a number; both are allowed
    least_steps = 0  # fewer make no sense; 1 where every update is a step
    most_steps: ClassVar[int | None] = None  # more make no sense; None where any number does
    rules: ClassVar[tuple[str, ...] | None] = None  # the steps rules that mean something for it; None where all do
    stays_in_ball = True
    stays_in_box = True
    teacher: Network
    norms: ClassVar[tuple[str, ...]] = ("linf",)  # of threat models that it can train for
    reuses_crafting_graph = False  # its update uses the pass that crafted, or its gradient: batch norm must train in it
    published_batch_norm = "train"  # its mode in `learner.craft`, by the authors; "eval" is the other
    smooths_labels = True  # the protocol's label smoothing makes sense, and is in `cross_entropy`
    perturbs_weights = False  # the protocol's weight perturbation makes sense: its update is `learner.minimise`
    needs_teacher = False  # it learns from another variant's checkpoint, `self.teacher`
    averages_weights = False  # it updates `learner.average` itself, which is evaluated

    def __init__(self, threat: Threat, *, label_smoothing: float = 0, **options: Any):
        self.threat = threat
        self.label_smoothing = label_smoothing
        self.state: dict[str, Tensor] = {}
        self.extra: dict[str, tuple[nn.Module, torch.optim.Optimizer | None]] = {}
        for name, value in options.items():
            setattr(self, name, value)

    def train_batch(self, learner: Learner, batch: Batch, effort: Effort) -> None:
        """Make the weight updates of one minibatch."""
        raise NotImplementedError

    def cross_entropy(self, logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        """Of logits (N, classes) to labels (N,), smoothed as the protocol says."""
        return F.cross_entropy(logits, labels, reduction=reduction, label_smoothing=self.label_smoothing)

    def updates(self, effort: Effort) -> int:
        """Weight updates that `train_batch` makes of one minibatch."""
        return 1

    # What few methods need. Hooks run outside the recording and inside the clock, and what they execute is counted.

    def modules(self, network: Network) -> dict[str, tuple[nn.Module, torch.optim.Optimizer | None]]:
        """Further networks by name, on `network`'s device, each with what trains it, or None where nothing does.

        They are made once, are `self.extra` from then on, and are checkpointed.
        """
        return {}

    def begin(self, split: Split) -> None:
        """Make the state that lives from the first minibatch on, such as a store of `methods.stores`."""

    def schedule(self, position: Position) -> dict[str, float]:
        """Numbers that change over the run, by name; `train_batch` finds them as tensors in `batch.scalars`."""
        return {}

    def begin_epoch(self, learner: Learner, position: Position) -> None:
        """Before the first minibatch of an epoch."""

    def before_batch(self, learner: Learner, batch: Batch, position: Position) -> None:
        """Before a minibatch."""
