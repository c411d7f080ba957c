"""Data sets of a user's own, which a suite names by where their images are: `{name: mine, npz: mine.npz}`."""
