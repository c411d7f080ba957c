"""ELLE-A."""

from methods.elle.method import ELLE


class ELLEA(ELLE):
    """Abad Rocamora et al., 2024: ELLE whose lambda is 0 until the linearity error jumps.

    After a minibatch whose error lies more than `deviations` standard deviations above the mean of all before it,
    lambda is `weight`; after any other it is `decay` times what it was (`LocalLinearity.adapt`).
    """

    ranges = {"weight": (0, 1000000), "decay": (0, 1), "deviations": (0, 1000)}
    adaptive = True

    decay: float
    deviations: float
