"""Catastrophic overfitting, seen from the validation split (Wong et al., 2020; Andriushchenko & Flammarion, 2020)."""

from training.validation import Accuracies

DROP = 0.20  # multi-step accuracy this far below the best so far ...
GAP = 0.15  # ... while single-step accuracy stays this far above it


class Watch:
    """Watches the validation accuracies of a run, epoch by epoch.

    Collapse is both at once: PGD accuracy more than 20 points below the run's best so far, or below half of it (where
    the best was low), and FGSM accuracy more than 15 points above PGD accuracy. The first alone is a drop that any
    unlucky epoch can show; the second alone is what a network trained on noise (the first epoch of M+) shows.
    """

    def __init__(self):
        self._best = 0.0

    def collapsed(self, validation: Accuracies) -> str | None:
        """Why the epoch counts as collapsed, in words; None where it does not."""
        best, self._best = self._best, max(self._best, validation.pgd)
        fell = best - validation.pgd > DROP or validation.pgd < best / 2
        if fell and validation.fgsm - validation.pgd > GAP:
            return (
                f"validation PGD accuracy fell to {validation.pgd:.1%} from {best:.1%} "
                f"while FGSM accuracy is {validation.fgsm:.1%}"
            )
        return None

    def state_dict(self) -> dict:
        return {"best": self._best}

    def load_state_dict(self, state: dict) -> None:
        self._best = state["best"]
