"""The contract between a method and the training loop."""

from typing import Any, ClassVar

from torch import Tensor

from experiment.effort import Effort
from experiment.threats.threat import Threat
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
    options: the method's own, from its defaults.yaml and the variant; a subclass has them as attributes, and may say
        of which type they are.
    state: tensors that live across minibatches, by name, made in the first and changed in place from then on; what is
        in it is checkpointed.
    """

    capturable = True
    choices: ClassVar[
        dict[str, tuple[str, ...]]
    ] = {}  # the values that an option may have, for options that are one of a few words
    ranges: ClassVar[
        dict[str, tuple[float, float]]
    ] = {}  # (least, most) of each option that is a number; both are allowed
    least_steps = 0  # fewer make no sense; 1 where every update is a step
    stays_in_ball = True
    stays_in_box = True
    norms: ClassVar[tuple[str, ...]] = ("linf",)  # of threat models that it can train for

    def __init__(self, threat: Threat, **options: Any):
        self.threat = threat
        self.state: dict[str, Tensor] = {}
        for name, value in options.items():
            setattr(self, name, value)

    def train_batch(self, learner: Learner, images: Tensor, labels: Tensor, effort: Effort) -> None:
        """Make the weight updates of one minibatch. images: (N, C, H, W) in [0, 1]; labels: (N,) int64."""
        raise NotImplementedError

    def updates(self, effort: Effort) -> int:
        """Weight updates that `train_batch` makes of one minibatch."""
        return 1
