"""What training and evaluation share: suites, data, networks, the threat model, records and their provenance."""
