"""Attacks as settings describe them, for whoever has a record or a resolved suite."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from experiment import plugins


def of_settings(settings: Mapping[str, Any]) -> Any:
    """The attack (evaluation/attacks/attack.py) that a resolved suite's or a record's settings describe.

    Raises UserError where there is none of that name.
    """
    name, _, number = settings["name"].partition("-")
    cls = plugins.load("attack", name)
    given = {**settings, "eps": settings["threat"]["eps"]}
    if cls.name_carries and number:
        given[cls.name_carries] = int(number)
    return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})
