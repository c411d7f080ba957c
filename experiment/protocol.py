"""Whether a record was made as the suite says that collates it."""

import copy
from collections.abc import Mapping

from experiment import schema
from experiment.errors import shown
from experiment.suite import attack_schema

ABSENT = object()


def difference(found, wanted, field: str) -> str | None:
    """The first leaf of `field` in which a record's value is not the suite's, as a clause; None where they agree.

    A key that the record lacks because the suite learnt it later counts as its default: what was done before it.
    """
    if field == "spec":
        found = completed_spec(found, wanted["steps"]["rule"])
    elif field == "settings":
        found = completed_settings(found, wanted["name"])
    return _first(found, wanted, field)


def completed_spec(spec: Mapping, rule: str) -> dict:
    """A run's specification with the default of every key that it lacks. rule: of its steps."""
    spec, known = copy.deepcopy(dict(spec)), schema.suite()
    parts = {key: known["properties"][key] for key in ("network", "threat", "training")}
    parts["steps"] = known["$defs"]["steps"][rule]
    for key, part in parts.items():
        schema.fill_defaults(spec.get(key), part)
    return spec


def completed_settings(settings: Mapping, name: str) -> dict:
    """An attack's settings with the default of every key that they lack, without keys that no such attack heeds."""
    heeded, others = attack_schema(name)["properties"], schema.suite()["$defs"]["attacks"].values()
    without_effect = {key for other in others for key in other["properties"]} - set(heeded)
    settings = {key: copy.deepcopy(value) for key, value in settings.items() if key not in without_effect}
    schema.fill_defaults(settings, attack_schema(name))
    return settings


def _first(found, wanted, path: str) -> str | None:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            differing = _first(found.get(key, ABSENT), wanted.get(key, ABSENT), f"{path}.{key}")
            if differing is not None:
                return differing
        return None
    if found == wanted and isinstance(found, bool) == isinstance(wanted, bool):
        return None
    here = "absent" if found is ABSENT else shown(found)
    right = "be absent" if wanted is ABSENT else f"be {shown(wanted)}"
    return f"{path} is {here}; in this place it must {right}"
