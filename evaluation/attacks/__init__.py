"""Attacks: how adversarial images are searched for. Each is a file here; nothing is registered."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from evaluation.attacks.attack import Attack
from experiment import plugins

__all__ = ["Attack", "of_settings"]


def of_settings(settings: Mapping[str, Any]) -> Attack:
    """The attack that a suite's resolved settings, or a record's, describe. Raises UserError where there is none."""
    name, _, number = settings["name"].partition("-")
    cls = plugins.load("attack", name)
    given = {**settings, "eps": settings["threat"]["eps"]}
    if cls.name_carries and number:
        given[cls.name_carries] = int(number)
    return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})
