"""Attacks: how adversarial images are searched for. Each is a file here; nothing is registered."""
