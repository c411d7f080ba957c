"""Threat models: which perturbations count. Training and evaluation use the same; each norm is a file here."""
