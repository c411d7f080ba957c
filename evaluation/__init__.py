"""Attacks on trained networks, and the tables and plots made from the records that runs and evaluations leave."""

import os

os.environ["MPLBACKEND"] = "Agg"  # matplotlib refuses to be imported with a backend that only a notebook has
