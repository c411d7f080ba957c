"""Nuclear norm adversarial training."""

from methods.guided import NuclearNorm


class NuAT(NuclearNorm):
    """Sriramanan et al., 2021: one step of eps, and a distance of the minibatch as a whole.

    The nuclear norm of the logit differences is added to the clean cross entropy of the update, and to the attack's in
    every second minibatch. Lambda grows to `weight` over the share `ramp` of the run; the norm is divided by `divisor`,
    the size of the authors' minibatches.
    """
