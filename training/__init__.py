"""The one training loop, its clock, its steps rules and its learner."""
