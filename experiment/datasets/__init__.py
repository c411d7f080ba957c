"""The data sets that are known by name: one file each, with everything that is particular to it.

A file defines `DATASET`, a `Dataset`; it imports nothing that takes seconds before it reads raw files.
"""
