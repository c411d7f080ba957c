"""Catastrophic overfitting, seen from the validation split (Wong et al., 2020; Andriushchenko & Flammarion, 2020).

A network overfits to single-step attacks where it withstands FGSM and not PGD. Two ways lead there. A run that was
robust can lose it, which is seen in the epoch in which it does; or it never is, while its FGSM accuracy rises, which is
known at the end alone: a run that will be robust may begin like that (the first epochs of M+ train on noise).
"""

from training.validation import Accuracies

DROP = 0.20  # PGD accuracy so far below its best so far ...
HALF = 0.5  # ... or below this share of it, where the best was better than guessing: the run lost its robustness
GAP = 0.15  # what FGSM accuracy must be above PGD accuracy by, in either case
SHARE = 1 / 3  # of the run's best FGSM accuracy, which its best PGD accuracy stays below: the run never was robust


class CollapseDetector:
    """Watches the validation accuracies of a run, epoch by epoch.

    guessing: the accuracy of a network that always says the same, which no attack lowers. PGD accuracies up to it show
    no robustness, and which of them is the highest is chance.
    """

    def __init__(self, guessing: float):
        self._guessing = guessing
        self._epochs = 0
        self._pgd = self._fgsm = 0.0  # the best so far
        self._since: int | None = None  # the epoch since which FGSM accuracy has left PGD accuracy behind

    def collapsed(self, validation: Accuracies) -> str | None:
        """Why the next epoch, of these accuracies, counts as one in which robustness was lost; None where not.

        That is both at once: PGD accuracy more than 20 points below the run's best so far, or below half of it, and
        FGSM accuracy more than 15 points above PGD accuracy. The first alone is a drop that any unlucky epoch can show.
        """
        best = self._pgd
        self._pgd, self._fgsm = max(best, validation.pgd), max(self._fgsm, validation.fgsm)
        left_behind = self._fgsm - self._pgd > GAP and self._pgd < SHARE * self._fgsm
        if not left_behind:
            self._since = None
        elif self._since is None:
            self._since = self._epochs
        self._epochs += 1
        fell = best - validation.pgd > DROP or best > self._guessing and validation.pgd < HALF * best
        if fell and validation.fgsm - validation.pgd > GAP:
            return (
                f"validation PGD accuracy fell to {validation.pgd:.1%} from {best:.1%} "
                f"while FGSM accuracy is {validation.fgsm:.1%}"
            )
        return None

    def never_robust(self) -> tuple[int, str] | None:
        """Since which epoch, and why, a run that ends here was robust to single-step attacks alone; None where not.

        Of the run's best accuracies, in whichever epochs, FGSM's is more than 15 points above PGD's, and PGD's is less
        than a third of FGSM's; the first is not so in a hard task, whose accuracies are both low, nor the second in a
        hard ball, where PGD accuracy is half of FGSM's.
        """
        if self._since is None:
            return None
        return self._since, (
            f"validation PGD accuracy was never above {self._pgd:.1%} while FGSM accuracy rose to {self._fgsm:.1%}"
        )

    def is_robust(self, pgd: float) -> bool:
        """Whether a PGD accuracy is one that guessing does not reach."""
        return pgd > self._guessing

    def state_dict(self) -> dict:
        return {"epochs": self._epochs, "pgd": self._pgd, "fgsm": self._fgsm, "since": self._since}

    def load_state_dict(self, state: dict) -> None:
        self._epochs, self._pgd, self._fgsm = state["epochs"], state["pgd"], state["fgsm"]
        self._since = state["since"]
