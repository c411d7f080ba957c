"""Optimizers. Each is a file here (optimizer.py has their base)."""
