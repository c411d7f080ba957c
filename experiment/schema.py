"""Every key of a suite, from its types: configs/suite.schema.yaml for editors and docs/suite.md for people.

python -m experiment.schema          (after a plug-in or a key is added or changed; a test says when they are stale)
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from experiment.files import write_atomically
from experiment.plugins import KINDS, ROOT, names, parameters
from experiment.suite import Suite

SCHEMA, TABLE = "configs/suite.schema.yaml", "docs/suite.md"
HEAD = "# Made by `python -m experiment.schema` from the types of experiment/keys.py and of the plug-ins; edit those.\n"
INTRODUCTION = f"""\
# The keys of a suite

Made by `python -m experiment.schema`. A *quantity* is a number or text such as `8/255`; a *length* is one in pixel
units, in (0, 1], and may also be written in units of the ball's radius, such as `0.25 eps`. `{SCHEMA}` is the same
for editors.
"""


def files() -> dict[str, str]:
    """The two files' texts, by their names from the project's folder."""
    schema = Suite.model_json_schema(by_alias=True)
    text = HEAD + yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=120)
    parts = [INTRODUCTION, *_section("A suite", schema, schema)]
    for name, part in schema.get("$defs", {}).items():
        parts += _section(name, part, schema)
    for kind, of in KINDS.items():
        for name in names(kind) if kind != "method" else ():  # whose options are in its own README.md
            part = parameters(kind, name).model_json_schema()
            parts += _section(f"{of.what[0].upper()}{of.what[1:]} `{name}`", part, part)
    return {SCHEMA: text, TABLE: "\n".join(parts)}


def _section(title: str, part: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    described = " ".join(part.get("description", "").split())
    yield f"## {title}\n"
    if described:
        yield f"{described}\n"
    yield "| key | what it says | values | default |\n|---|---|---|---|"
    for key, value in part.get("properties", {}).items():
        default = "must be given" if key in part.get("required", []) else f"`{_shown(value.get('default'))}`"
        yield f"| `{key}` | {' '.join(value.get('description', '').split())} | {_values(value)} | {default} |"
    yield ""


def _values(value: Mapping[str, Any]) -> str:
    """What may stand there, in a few words."""
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{_shown(choice)}`" for choice in value["enum"])
    if "anyOf" in value:
        return " or ".join(_values(choice) for choice in value["anyOf"])
    if "$ref" in value or "allOf" in value:
        return "see below"
    if "oneOf" in value:
        return "a plug-in, see below"
    if value.get("type") == "array":
        return f"list of {_values(value.get('items', {}))}"
    if value.get("type") == ["number", "string"]:
        kind = "quantity"
    else:
        kind = {"integer": "whole number", "boolean": "true or false", "string": "text", "object": "mapping"}.get(
            value.get("type", ""), value.get("type", "anything")
        )
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {value[key]:g}" for key, word in words.items() if key in value]
    return " ".join([kind, *limits])


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m experiment.schema", description=__doc__.partition("\n")[0]).parse_args(
        arguments
    )
    for name, text in files().items():
        write_atomically(ROOT / name, text.encode())
        print(f"Written: {name}")


if __name__ == "__main__":
    main()
