"""Schedules of the learning rate, and of momentum where it cycles. Each is a file here (schedule.py has their base)."""
