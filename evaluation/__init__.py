"""Attacks on trained networks, and the tables and plots made from the records that runs and evaluations leave."""
