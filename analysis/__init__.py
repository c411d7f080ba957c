"""From the records that runs and evaluations leave to numbers."""
