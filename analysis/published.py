"""Numbers that others have published, and which of them are of the same thing as one of a suite's variants.

They are in results/reference/: published.csv has the numbers, sources.yaml whose they are and how those networks were
trained, and README.md says what the columns and keys mean.
"""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.results import Identity, by_variant
from experiment import plugins, strict_yaml
from experiment.errors import UserError
from experiment.suite import ROOT, Suite

PUBLISHED = ROOT / "results" / "reference" / "published.csv"
SOURCES = "sources.yaml"
SOURCE_KEYS = {"title", "url", "seeds", "checkpoint", "training"}
COLUMNS = ["source", "dataset", "architecture", "eps_255", "method", "steps_rule", "epochs", "passes", "attack"]
COLUMNS += ["accuracy_percent", "minutes", "hardware", "note"]
NUMBERS = {"eps_255", "epochs", "passes", "accuracy_percent", "minutes"}
MAY_BE_EMPTY = {"epochs", "passes", "minutes", "note"}  # where the source does not say
OF_AN_ATTACK = {"attack", "accuracy_percent"}  # rows that agree in all else are one run under several attacks
# What is known of the published method and may be so in ours too: the option of it, and the value that it then has.
OURS_TOO = {"perturbation reset for each minibatch": ("carry", False), "lr not divided by m": ("divide_lr", False)}
# By our method and steps rule, what the published method of `counterpart` has; steps and totals as shares of eps. Read
# in the code of the papers, as methods/*/README.md says.
PARAMETERS = {
    ("pgd", "constant"): {"step_size": 0.25},
    ("pgd", "amata"): {"total": 2.5},
    ("pgd", "mplus-2021"): {"step_size": 0.25, "gamma": 1.01},
    ("free", "constant"): {"step_size": 1.0},
    ("fast", "constant"): {"step_size": 1.25},
    ("n_fgsm", "constant"): {"step_size": 1.0, "noise": 2.0},
    ("yopo", "constant"): {"step_size": 0.25},
    ("trades", "constant"): {"step_size": 0.25, "beta": 6.0},
    ("trades", "mplus-2021"): {"step_size": 0.25, "gamma": 1.01, "beta": 6.0},
    ("mart", "constant"): {"step_size": 0.25, "beta": 6.0},
    ("mart", "mplus-2021"): {"step_size": 0.25, "gamma": 1.01, "beta": 6.0},
    ("grad_align", "constant"): {"step_size": 1.25},
    ("deat", "mplus-2021"): {"step_size": 1.25, "gamma": 1.01},
    ("deat", "mplus"): {"step_size": 1.25, "gamma": 1.01},
}
NOTED = {"steps of 10/255": {"step_size": 1.25}}  # notes of single runs that had other parameters, at eps = 8/255
PHRASES = {
    "step_size": "steps of {} eps",
    "total": "steps of {} eps in all",
    "gamma": "gamma {}",
    "noise": "noise {} eps",
    "beta": "beta {}",
}


class Match(NamedTuple):
    """A variant of ours beside one published run of the same.

    identity: as of `by_variant`; variant: as resolved; ours: its rows of the runs frame; rows: the published run's rows
    of published.csv, one an attack that ours was put under too; source: its entry of sources.yaml.
    """

    identity: Identity
    variant: dict[str, Any]
    ours: pd.DataFrame
    rows: pd.DataFrame
    source: dict[str, Any]


def read_published(path: Path = PUBLISHED) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of published.csv, numbers as floats and NaN where nothing is stated, and sources.yaml beside it.

    Nothing of either where there is no published.csv. Raises UserError that names file, line and column where one of
    them cannot be used.
    """
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS), {}
    sources = _read_sources(path.parent / SOURCES)
    rows = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise UserError(f"{path}, line 1: no column {missing[0]}; the columns are {', '.join(COLUMNS)}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise UserError(
                        f"{where}: it must have as many cells as the first line, {len(reader.fieldnames or [])}"
                    )
                rows.append({column: _cell(row[column], column, where) for column in COLUMNS})
                if row["source"] not in sources:
                    known = ", ".join(sources)
                    raise UserError(f"{where}, column source: {row['source']!r} is not in {SOURCES}, which has {known}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not readable as CSV in UTF-8 ({error})") from None
    return pd.DataFrame(rows, columns=COLUMNS), sources


def _read_sources(path: Path) -> dict[str, Any]:
    sources = strict_yaml.read(path)
    if not isinstance(sources, dict) or not all(isinstance(source, dict) for source in sources.values()):
        raise UserError(f"{path}: it must have a mapping with {', '.join(sorted(SOURCE_KEYS))} for each source")
    for name, source in sources.items():
        if lacking := sorted(SOURCE_KEYS - set(source)):
            raise UserError(
                f"{path}: {name} has no key {lacking[0]}; each source needs {', '.join(sorted(SOURCE_KEYS))}"
            )
    return sources


def _cell(text: str, column: str, where: str) -> str | float:
    if not text and column not in MAY_BE_EMPTY:
        raise UserError(f"{where}, column {column}: it is empty, and must not be")
    if column not in NUMBERS:
        return text
    try:
        number = float(text) if text else math.nan
    except ValueError:
        number = -1.0
    if text and not 0 <= number < math.inf:
        raise UserError(f"{where}, column {column}: {text!r} is there; it must be a number such as 47.17")
    return number


def counterpart(variant: Mapping[str, Any], eps: float) -> tuple[str, str] | None:
    """The method and the steps rule of published.csv that are this variant's; None where none is known to be.

    variant: as in a resolved suite; its label does not count. eps: the ball's radius in pixel units.
    """
    steps, options = variant["steps"], variant["options"]
    grows = (steps.get("first"), steps.get("most"))
    if steps.get("guard"):  # of this suite alone
        return None
    match variant["method"], steps["rule"]:
        case "pgd", "constant":
            return f"pgd-{steps['steps']}", "constant"
        case "pgd", "amata":
            return f"amata-{grows[0]}-{grows[1]}", "amata"
        case "pgd", "mplus-2021" if steps["host"] and grows == (0, 7):
            return "pgd", "mplus-2021"
        case "free", "constant":
            return f"free-{steps['steps']}", "constant"
        case "fast", "constant" if steps["steps"] == 1 and options["start"] == "random":
            return "fgsm-rs", "constant"
        case "n_fgsm", "constant" if steps["steps"] == 1:
            return "n-fgsm", "constant"
        case ("trades" | "mart") as method, "constant" if steps["steps"] == 10:
            return method, "constant"
        case ("trades" | "mart") as method, "mplus-2021" if steps["host"] and grows == (0, 10):
            return method, "mplus-2021"
        case "grad_align", "constant" if steps["steps"] == 1:
            return "gradalign", "constant"
        case "yopo", "constant":
            return f"yopo-{steps['steps']}-{options['inner_steps']}", "constant"
        case "deat", "mplus-2021" if not steps["host"] and grows == (1, 8):
            return "deat", "mplus-2021"
        case "deat", "mplus" if grows == (1, 8) and steps["step_size"] >= eps:  # max(eps/n, step_size) never changes
            return "deat", "mplus-2021"
    return None


def _usual_attacks(suite: Suite) -> list[str]:
    """The suite's attacks that are what their labels say, in the suite's own ball."""
    attacks = suite.resolved["evaluation"]["attacks"]
    return [attack["name"] for attack in attacks if attack["label"] == attack["name"] and attack["eps"] is None]


def matches(suite: Suite, runs: pd.DataFrame, published: pd.DataFrame, sources: dict[str, Any]) -> Iterator[Match]:
    """Every published run of a variant's own method, data set, architecture and ball that shares an attack with it."""
    network, threat = suite.resolved["network"], suite.resolved["threat"]
    if plugins.changed("network", network) or threat["norm"] != "linf":  # no other is in published.csv
        return
    alike = (published["architecture"] == network["name"]) & published["attack"].isin(_usual_attacks(suite))
    alike &= (published["eps_255"] - 255 * threat["eps"]).abs() < 1e-6
    variants = {variant["label"]: variant for variant in suite.resolved["variants"]}
    run = [column for column in COLUMNS if column not in OF_AN_ATTACK]
    for identity, ours in by_variant(suite, runs):
        there = published[alike & (published["dataset"] == identity.dataset)]
        variant = variants[identity.variant]
        names = counterpart(variant, threat["eps"]) if len(there) and not variant["network"] else None
        if names is not None and ours["accuracy"].notna().any():
            found = there[(there["method"] == names[0]) & (there["steps_rule"] == names[1])]
            for _, rows in found.groupby(run, sort=False, dropna=False):
                yield Match(identity, variant, ours, rows, sources[rows.iloc[0]["source"]])


def differences(suite: Suite, match: Match) -> list[str]:
    """Where the published run's training and choice of a checkpoint differ from ours or are not stated, in phrases."""
    row, training = match.rows.iloc[0], suite.resolved["training"] | match.variant["training"]
    training = training["optimizer"] | training  # published.csv names an optimizer's parameters beside the others
    notes = [note for note in row["note"].split("; ") if note]
    found = [*_parameters(match.variant, suite.resolved["threat"]["eps"], notes)]
    if math.isnan(row["epochs"]):
        found.append("epochs not stated")
    elif row["epochs"] != training["epochs"]:
        found.append(f"{row['epochs']:g} epochs, ours {training['epochs']}")
    theirs = match.source["training"]
    for key, value in theirs.items():
        if value != (ours := _same_keys(training[key], value)):
            found.append(f"{key.replace('_', ' ')} {_said(value)}, ours {_said(ours)}")
    unknown = [key.replace("_", " ") for key in ("batch_size", "lr", "weight_decay", "schedule") if key not in theirs]
    found += [f"{', '.join(unknown)} not stated"] if unknown else []
    checkpoint = match.source["checkpoint"]
    found.append(f"checkpoint: {checkpoint}" if checkpoint else "checkpoint rule not stated")
    for phrase in [*match.source.get("also", []), *(note for note in notes if note not in NOTED)]:
        option, value = OURS_TOO.get(phrase, ("", None))
        if option not in match.variant["options"] or match.variant["options"][option] != value:
            found.append(phrase)
    return found


def _parameters(variant: Mapping[str, Any], eps: float, notes: list[str]) -> Iterator[str]:
    """Phrases for the parameters of the method itself that are not the published ones: "gamma 2, there 1.01"."""
    theirs = PARAMETERS[variant["method"], variant["steps"]["rule"]]
    for note in notes:
        theirs = theirs | NOTED.get(note, {})
    ours = variant["steps"] | variant["options"]
    for key, value in theirs.items():
        found = ours[key] / eps if key in ("step_size", "total") else ours[key]
        if not math.isclose(found, value, rel_tol=1e-6):
            yield f"{PHRASES[key].format(f'{found:g}')}, there {value:g}{' eps' * ('eps' in PHRASES[key])}"


def _same_keys(ours: Any, theirs: Any) -> Any:
    """What is ours of a schedule in the keys that theirs has; one of another name is shown by its name alone."""
    if not isinstance(theirs, dict):
        return ours
    return {key: ours[key] for key in theirs} if ours["name"] == theirs["name"] else {"name": ours["name"]}


def _said(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value:g}"
    more = ", ".join(f"{key} {part}" for key, part in value.items() if key != "name")
    return f"{value['name']} ({more})" if more else value["name"]
