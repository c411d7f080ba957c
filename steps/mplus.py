"""M+: the gradient's magnitude says when one more step is worth it; its later form."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from experiment.effort import Effort
from experiment.fields import First, Most, Positive, StepSize
from steps.rule import Statistics, StepsRule

GUARD = (
    "Not the authors'; no growth after an epoch whose magnitude is more than twice that of the epoch before at the "
    "same number of steps, as in catastrophic overfitting. The threshold stays; the next epoch is judged anew."
)


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

    first: First
    most: Most
    gamma: Annotated[Positive, Field(description="The threshold is gamma times the magnitude at the last growth.")]
    step_size: StepSize
    eps: float
    guard: Annotated[bool, Field(description=GUARD)] = False

    def __post_init__(self) -> None:
        self.n = self.first
        self.threshold: float | None = None
        self.previous: float | None = None  # M of the epoch before, None where its n was another

    def end_epoch(self, epoch: int, statistics: Statistics) -> None:
        n, magnitude = self.n, statistics.magnitude
        if epoch == 0:
            self.n = min(n + 1, self.most)
        elif epoch == 1:
            self.threshold = self.gamma * magnitude
        elif ((self.exceeded(magnitude) and n < self.most) or self.forced()) and not self.refused(magnitude):
            self.threshold = self.gamma * magnitude
            self.n += 1
        self.previous = magnitude if self.n == n else None

    def exceeded(self, magnitude: float) -> bool:
        """Whether M is above the threshold, which there is from epoch 1 on."""
        return self.threshold is not None and magnitude > self.threshold

    def forced(self) -> bool:
        """Whether n grows whatever M is."""
        return False

    def refused(self, magnitude: float) -> bool:
        """Whether the guard is on and M has jumped as it does in catastrophic overfitting."""
        return self.guard and self.previous is not None and magnitude > 2 * self.previous

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n, "threshold": self.threshold, "previous": self.previous}


@dataclass
class MPlus(GradientMagnitude):
    """M+ in its later form: no forced growth, step size max(eps/n, step_size), M from the update's backward."""

    magnitude_of = "update"

    def effort_for(self, epoch: int) -> Effort:
        return Effort(self.n, max(self.eps / self.n, self.step_size) if self.n else self.step_size)
