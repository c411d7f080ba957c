"""Threat models: which perturbations count. Training and evaluation use the same; each norm is a file here."""

from experiment.threats.l2 import L2
from experiment.threats.linf import Linf

THREATS = {"linf": Linf, "l2": L2}
