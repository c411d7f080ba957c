"""Steps rules: how many adversarial iterations each epoch uses, and how long they are. Pure Python, no tensors.

    python -m training.steps mplus-2021 --first 1 --most 8 --gamma 1.01 --step-size 10/255 --eps 8/255 FILE

replays logged magnitudes (one an epoch, one a line) through a rule and prints the step count of each epoch.
"""

import argparse
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from experiment.effort import Effort
from experiment.errors import UserError
from experiment.quantity import quantity


@dataclass(frozen=True)
class Statistics:
    """What a rule may see of an epoch: its gradient magnitude and the accuracy on the adversarial training images."""

    magnitude: float
    accuracy: float


class StepsRule(ABC):
    """Decides the effort of each epoch. A subclass is a dataclass; its fields are its parameters, as in a suite.

    One of them, `first` or `steps`, is the number of steps in epoch 0: before work starts it is held against what the
    method needs. `eps` and `epochs`, where they are fields, come from elsewhere in the suite.
    """

    magnitude_of: str | None = None  # "update" or "attack": the backward whose gradient's magnitude the rule asks for

    @abstractmethod
    def effort_for(self, epoch: int) -> Effort:
        """The effort of an epoch (0-based), asked for before it."""

    def end_epoch(self, epoch: int, statistics: Statistics) -> None:  # noqa: B027 (a rule need not look)
        """Take note of an epoch that is over."""

    def state_dict(self) -> dict:
        """What must survive an interruption."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        for key, value in state.items():
            setattr(self, key, value)


@dataclass
class Constant(StepsRule):
    """The same effort in every epoch."""

    steps: int
    step_size: float

    def effort_for(self, epoch):
        return Effort(self.steps, self.step_size)


@dataclass
class Every(StepsRule):
    """DEAT-d (Wang et al., 2021): one more step every d epochs, n(e) = min(floor(e/d) + first, most)."""

    first: int
    most: int
    d: int
    step_size: float

    def effort_for(self, epoch):
        return Effort(min(epoch // self.d + self.first, self.most), self.step_size)


@dataclass
class Accuracy(StepsRule):
    """DEAT-p (Wang et al., 2021): one more step after an epoch with adversarial training accuracy above a threshold."""

    first: int
    most: int
    threshold: float
    step_size: float

    def __post_init__(self):
        self.n = self.first

    def effort_for(self, epoch):
        return Effort(self.n, self.step_size)

    def end_epoch(self, epoch, statistics):
        if statistics.accuracy > self.threshold and self.n < self.most:
            self.n += 1

    def state_dict(self):
        return {"n": self.n}


@dataclass
class Amata(StepsRule):
    """Amata (Ye et al., 2021): K(e) = first + int((most - first) e / epochs), steps of total/K(e).

    `most` is thus reached by no epoch of the run, as in the published re-implementation.
    """

    first: int
    most: int
    total: float
    epochs: int

    def effort_for(self, epoch):
        steps = self.first + (self.most - self.first) * epoch // self.epochs
        return Effort(steps, self.total / steps)


GUARD = {"help": "no growth after an epoch whose magnitude is more than twice the last one's at the same n"}
HOST = {"help": "force growth until step_size * n >= eps"}


@dataclass
class GradientMagnitude(StepsRule):
    """M+ (Wang et al., 2021): the magnitude M of the input gradient tells when one more step is worth it.

    One more step after epoch 0, whatever M; after epoch 1 the threshold T = gamma M is set; from epoch 2 on, M > T
    makes it one more and sets T = gamma M anew (with the M that was measured at the old n).

    The option `guard` is not the authors': where runs of TrustAI/DEAT collapsed (WRN-34-10), M tripled within an epoch,
    which M+ takes for a reason to grow. With the guard, from epoch 2 on, M(e) > 2 M(e-1) refuses the growth after epoch
    e if n was the same in epochs e-1 and e. Forced growth is refused too, and T stays as it is. The next epoch is
    judged anew, against M(e): if M stays high without doubling again, n grows then, one epoch late.
    """

    first: int
    most: int
    gamma: float
    step_size: float
    eps: float
    guard: bool = field(default=False, metadata=GUARD)

    def __post_init__(self):
        self.n = self.first
        self.threshold: float | None = None
        self.previous: float | None = None  # M of the epoch before, None where its n was another

    def end_epoch(self, epoch, statistics):
        n, magnitude = self.n, statistics.magnitude
        if epoch == 0:
            self.n = min(n + 1, self.most)
        elif epoch == 1:
            self.threshold = self.gamma * magnitude
        elif ((magnitude > self.threshold and n < self.most) or self.forced()) and not self.refused(magnitude):
            self.threshold = self.gamma * magnitude
            self.n += 1
        self.previous = magnitude if self.n == n else None

    def forced(self) -> bool:
        """Whether n grows whatever M is."""
        return False

    def refused(self, magnitude: float) -> bool:
        """Whether the guard is on and M has jumped as it does in catastrophic overfitting."""
        return self.guard and self.previous is not None and magnitude > 2 * self.previous

    def state_dict(self):
        return {"n": self.n, "threshold": self.threshold, "previous": self.previous}


@dataclass
class MPlus(GradientMagnitude):
    """M+ in its later form: no forced growth, step size max(eps/n, step_size), M from the update's backward."""

    magnitude_of = "update"

    def effort_for(self, epoch):
        return Effort(self.n, max(self.eps / self.n, self.step_size) if self.n else self.step_size)


@dataclass
class MPlus2021(GradientMagnitude):
    """M+ as it made the paper's Table 1: fixed step size, M from the last backward that moved the perturbation.

    A `host` (a method with a separate weight update, such as PGD) must grow until step_size * n >= eps, past `most`
    if need be.
    """

    host: bool = field(default=False, metadata=HOST)

    magnitude_of = "attack"

    def effort_for(self, epoch):
        return Effort(self.n, self.step_size)

    def forced(self):
        return self.host and self.step_size * self.n < self.eps * (1 - 1e-9)  # 4 steps of eps/4 are enough


RULES = {
    "constant": Constant,
    "every": Every,
    "accuracy": Accuracy,
    "amata": Amata,
    "mplus": MPlus,
    "mplus-2021": MPlus2021,
}


def build(steps: dict, *, eps: float, epochs: int) -> StepsRule:
    """The rule that a resolved variant's `steps` describes. eps in pixel units; epochs of the whole run."""
    cls = RULES[steps["rule"]]
    wanted = {parameter.name for parameter in fields(cls)}
    known = {**steps, "eps": eps, "epochs": epochs}
    return cls(**{key: value for key, value in known.items() if key in wanted})


def replay(rule: StepsRule, magnitudes: list[float]) -> list[int]:
    """Steps used in each epoch when its magnitude is what is given, one an epoch."""
    used = []
    for epoch, magnitude in enumerate(magnitudes):
        used.append(rule.effort_for(epoch).steps)
        rule.end_epoch(epoch, Statistics(magnitude, accuracy=math.nan))
    return used


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.steps", description="Replay magnitudes through a rule.")
    rules = parser.add_subparsers(dest="rule", required=True)
    for name, cls in RULES.items():
        if cls.magnitude_of is None:
            continue
        options = rules.add_parser(name, help=cls.__doc__.partition("\n")[0])
        for parameter in fields(cls):
            flag = "--" + parameter.name.replace("_", "-")
            if parameter.type is bool:
                options.add_argument(flag, action="store_true", help=parameter.metadata["help"])
            else:
                kind = int if parameter.type is int else str
                options.add_argument(flag, type=kind, required=parameter.default is MISSING)
        options.add_argument("file", type=Path, metavar="FILE", help="magnitudes, one an epoch, one a line")
    chosen = vars(parser.parse_args(arguments))
    try:
        file, rule = chosen.pop("file"), RULES[chosen.pop("rule")]
        eps = quantity(chosen["eps"], "--eps")
        numbers = {
            key: quantity(text, "--" + key.replace("_", "-"), eps if key == "step_size" else None)
            for key, text in chosen.items()
            if isinstance(text, str)
        }
        if not 0 <= chosen["first"] <= chosen["most"]:
            raise UserError(f"--first {chosen['first']} must lie between 0 and --most, which is {chosen['most']}")
        for key, number in numbers.items():
            if not 0 < number <= (1 if key == "eps" else math.inf):
                raise UserError(f"--{key.replace('_', '-')} is {number:g}; it must be above 0, and eps at most 1")
        magnitudes = read_magnitudes(file)
        print("\n".join(map(str, replay(rule(**{**chosen, **numbers}), magnitudes))))
    except UserError as error:
        sys.exit(f"error: {error}")


def read_magnitudes(file: Path) -> list[float]:
    """Finite, non-negative numbers, one a line. Raises UserError naming the line."""
    try:
        lines = file.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not readable ({error}); give a file of magnitudes, one a line") from None
    magnitudes = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                magnitudes.append(float(line))
            except ValueError:
                magnitudes.append(math.nan)
            if not (math.isfinite(magnitudes[-1]) and magnitudes[-1] >= 0):
                raise UserError(f"{file}, line {number}: {line.strip()!r} is no magnitude (a finite number >= 0)")
    return magnitudes


if __name__ == "__main__":
    main()
