"""What two folders of results of one suite say differently, in numbers; reporting/compare.py prints them.

- Accuracy, by variant and attack: b minus a, seeds paired, of runs that are ok on both sides. The noise is that of
  training again, pooled over variants and never taken to be less than what the images that only one side has right make
  of it (`statistics.changes`). Changed is what stays significant at 5 % after Holm's correction for all comparisons: of
  pairs of folders without any change, about one in twenty is called changed. That assumes that the seeds of variants
  spread alike; where one spreads much more than the others, false alarms are more frequent.
- What cannot be tested is counted: one seed tells no noise, and a run that failed on both sides is in no mean.
- Runs with the same weights are told apart from those trained again, and are identical if their verdicts are too.
- Compute and passes are counts: under a steps rule that only looks at the epoch any difference is a change; where it
  looks at training, a t test over seeds of the logarithm of b/a joins the others.
- Seconds are shown where both ran on hardware of the same label, and decide nothing: other work on a machine moves
  them all together, which no test over seeds can see.
- A run or an evaluation that only one folder has, a status, a number of images, a run's specification or an attack's
  settings that differ are a change: the folders do not measure the same. Versions, hardware and threads by themselves
  are none, and are named, since weights depend on them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.results import RunKey, RunRecords, leaves
from analysis.statistics import Change, changes, holm, ratio_interval
from experiment import record
from experiment.consistency import completed_settings, completed_spec
from experiment.errors import UserError
from experiment.record import Record
from experiment.verdicts import check_evaluates, read_verdicts

FIXED_RULES = {"constant", "every", "amata"}  # their counts depend on the epoch alone
COUNTS = ("compute", "passes")
ROUNDING = 1e-9  # of a sum of counts, relative
Outcome = Literal["identical", "changed", "unchanged within noise", "unknown: one seed", "not the same images", ""]
Folder = Mapping[RunKey, RunRecords]


@dataclass(frozen=True)
class Accuracy:
    """A variant under an attack on both sides, as fractions; images: how many, by side.

    change: b minus a with its interval, NaN where seeds or images tell none; outcome "" while a test is to decide.
    """

    dataset: str
    variant: str
    attack: str
    seeds: int
    a: float
    b: float
    images: tuple[list[int], list[int]]
    change: Change
    outcome: Outcome = ""


@dataclass(frozen=True)
class Costs:
    """A variant's costs on both sides, means over seeds by name; its counts' outcome, as that of an `Accuracy`.

    seconds_ratio: b / a with its 95 % interval, None where the seconds are not compared, and `timing` says why.
    """

    dataset: str
    variant: str
    a: Mapping[str, float]
    b: Mapping[str, float]
    p_value: float
    seconds_ratio: tuple[float, float, float] | None
    timing: Literal["compared", "other hardware", "timed beside other work"]
    outcome: Outcome = ""


class Named(NamedTuple):
    """Values that differ between the sides: of what, which setting, and each pair of values found; None for absent."""

    what: str
    setting: str
    values: list[tuple[Any, Any]]


class Status(NamedTuple):
    """How a run ended on both sides."""

    run: RunKey
    a: str
    b: str


@dataclass(frozen=True)
class Comparison:
    """All that two folders say differently.

    one_sided: a run, or an evaluation of a run that both have, and the side that has it; statuses: of runs that ended
    differently; failed: of runs that failed alike and are not the same; protocol, origin: what differs in what was to
    be done, which is a change, and in what it was done with, which is none.
    """

    accuracies: list[Accuracy]
    costs: list[Costs]
    one_sided: list[tuple[RunKey, str | None, str]] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    failed: list[Status] = field(default_factory=list)
    protocol: list[Named] = field(default_factory=list)
    origin: list[Named] = field(default_factory=list)

    @property
    def tested(self) -> list[Accuracy | Costs]:
        """Everything that has an outcome."""
        return [*self.accuracies, *self.costs]

    @property
    def is_changed(self) -> bool:
        """Whether the folders say anything differently beyond noise, or do not measure the same."""
        outcomes = {each.outcome for each in self.tested}
        return bool(outcomes & {"changed", "not the same images"} or self.one_sided or self.statuses or self.protocol)


def read_folder(folder: Path, problems: list[str]) -> dict[RunKey, RunRecords]:
    """Every run below results/<suite>; what cannot be used is added to `problems`.

    Raises UserError when there is no usable record, or records of more than one suite.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give one that holds a suite's results")
    runs = {}
    for path in sorted(folder.glob("*/*/seed*/train.json")):
        try:
            train = record.read(path)
            key = RunKey(train["dataset"], train["variant"], train["seed"])
            if path.parent != folder / key.folder:
                raise UserError(f"{path}: it is of {key}, which is another folder's")
        except UserError as error:
            problems.append(str(error))
            continue
        runs[key] = _read_run(path.parent, train, problems)
    suites = sorted({run.train["suite"] for run in runs.values()})
    if len(suites) != 1:
        found = f"records of the suites {', '.join(suites)}" if suites else problems[0] if problems else "no record"
        raise UserError(f"{folder}: {found}; it must be results/<suite>, with the records of one suite")
    return runs


def _read_run(folder: Path, train: Record, problems: list[str]) -> RunRecords:
    run = RunRecords(train, {}, {})
    for path in sorted((folder / "evaluate").glob("*.json")):
        try:
            evaluation = record.read(path)
            check_evaluates(path, evaluation, train)
            run.verdicts[path.stem] = read_verdicts(path.with_name(f"{path.stem}.robust.npy"), evaluation)
            run.evaluations[path.stem] = evaluation
        except UserError as error:
            problems.append(str(error))
    return run


def compare(a: Folder, b: Folder) -> Comparison:
    """b against a, as `read_folder` gives them; see the module's docstring. Raises UserError for two suites."""
    suites = [next(iter(side.values())).train["suite"] for side in (a, b)]
    if suites[0] != suites[1]:
        raise UserError(f"the results are of two suites, {suites[0]} and {suites[1]}; compare results of one suite")
    accuracies, costs = _accuracies(a, b), _costs(a, b)
    p_values = [*(each.change.p_value for each in accuracies), *(each.p_value for each in costs)]
    outcomes: list[Outcome] = [*(each.outcome for each in accuracies), *(each.outcome for each in costs)]
    undecided = [math.nan if outcome else p for outcome, p in zip(outcomes, p_values, strict=True)]
    for i, rejected in enumerate(holm(undecided)):
        outcomes[i] = outcomes[i] or ("changed" if rejected else "unchanged within noise")
    return Comparison(
        [replace(each, outcome=outcome) for each, outcome in zip(accuracies, outcomes, strict=False)],
        [replace(each, outcome=outcome) for each, outcome in zip(costs, outcomes[len(accuracies) :], strict=True)],
        [*_one_sided(a, b)],
        [each for each in _statuses(a, b) if each.a != each.b],
        [each for each in _statuses(a, b) if each.a == each.b != "ok" and not _are_same(a[each.run], b[each.run])],
        _named(_protocol(a, b)),
        _named(_origins(a, b)),
    )


def _accuracies(a: Folder, b: Folder) -> list[Accuracy]:
    """One for each variant and attack that both have, its change measured against the noise that it shares."""
    found: list[Accuracy] = []
    groups: dict[tuple[str, str, bool], list[tuple[int, NDArray[np.float64]]]] = {}
    for dataset, variant in _variants(a, b):
        shared = [key for key in _shared(a, b) if key[:2] == (dataset, variant)]
        shared = [key for key in shared if a[key].train["status"] == b[key].train["status"] == "ok"]
        for attack in dict.fromkeys(name for key in shared for name in a[key].verdicts if name in b[key].verdicts):
            keys = [key for key in shared if attack in a[key].verdicts and attack in b[key].verdicts]
            first, second = ([side[key].verdicts[attack] for key in keys] for side in (a, b))
            mean_a, mean_b = (float(np.mean([verdicts.mean() for verdicts in side])) for side in (first, second))
            images_a, images_b = (sorted({len(verdicts) for verdicts in side}) for side in (first, second))
            same_weights = all(a[key].train["weights_sha256"] == b[key].train["weights_sha256"] for key in keys)
            outcome: Outcome = ""
            if same_weights and all(map(np.array_equal, first, second)):
                outcome = "identical"
            elif len({*images_a, *images_b}) > 1:
                outcome = "not the same images"
            else:
                difference = np.stack(second).astype(float) - np.stack(first)
                groups.setdefault((dataset, attack, same_weights), []).append((len(found), difference))
            change, images = Change(mean_b - mean_a, math.nan, math.nan, math.nan), (images_a, images_b)
            found.append(Accuracy(dataset, variant, attack, len(keys), mean_a, mean_b, images, change, outcome))
    for group in groups.values():
        for (i, _), change in zip(group, changes([difference for _, difference in group]), strict=True):
            outcome = "unknown: one seed" if math.isnan(change.p_value) else ""
            found[i] = replace(found[i], change=change, outcome=outcome)
    return found


def _costs(a: Folder, b: Folder) -> list[Costs]:
    """One for each variant that both have with runs that did not diverge."""
    found = []
    for dataset, variant in _variants(a, b):
        pairs = [(a[key].train, b[key].train) for key in _shared(a, b) if key[:2] == (dataset, variant)]
        pairs = [pair for pair in pairs if all(train["status"] != "diverged" for train in pair)]
        if not pairs:
            continue
        values = {
            cost: np.array([[train["cost"][cost] for train in pair] for pair in pairs]) for cost in (*COUNTS, "seconds")
        }
        means_a, means_b = ({cost: float(v[:, side].mean()) for cost, v in values.items()} for side in (0, 1))
        rules = {train["spec"]["steps"]["rule"] for pair in pairs for train in pair}
        outcome, p_value = _counts([values[cost] for cost in COUNTS], rules)
        timing: Literal["compared", "other hardware", "timed beside other work"] = "compared"
        if any(train["cost"]["disturbed"] for pair in pairs for train in pair):
            timing = "timed beside other work"
        elif any(len({train["provenance"]["hardware"]["label"] for train in pair}) > 1 for pair in pairs):
            timing = "other hardware"
        ratios = values["seconds"][:, 1] / values["seconds"][:, 0]
        ratio = ratio_interval(ratios.tolist()) if timing == "compared" else None
        found.append(Costs(dataset, variant, means_a, means_b, p_value, ratio, timing, outcome))
    return found


def _counts(counts: Sequence[NDArray[np.float64]], rules: set[str]) -> tuple[Outcome, float]:
    """An outcome, or "" and the p that decides: the least of the counts', as they move together; each (seeds, 2)."""
    logs = [np.log(count[:, 1] / count[:, 0]) for count in counts]
    if all((np.abs(each) < ROUNDING).all() for each in logs):
        return "identical", math.nan
    if rules <= FIXED_RULES:
        return "changed", math.nan
    if len(logs[0]) == 1:
        return "unknown: one seed", math.nan
    return "", min(0.0 if np.ptp(each) == 0 and each.any() else _p(each) for each in logs if each.any())


def _p(logs: NDArray[np.float64]) -> float:
    return float(stats.ttest_1samp(logs, 0).pvalue)


def _shared(a: Folder, b: Folder) -> list[RunKey]:
    return [key for key in a if key in b]


def _variants(a: Folder, b: Folder) -> list[tuple[str, str]]:
    return list(dict.fromkeys((key.dataset, key.variant) for key in _shared(a, b)))


def _one_sided(a: Folder, b: Folder) -> Iterator[tuple[RunKey, str | None, str]]:
    for name, side, other in (("a", a, b), ("b", b, a)):
        for key in side:
            if key not in other:
                yield key, None, name
                continue
            for attack in side[key].evaluations.keys() - other[key].evaluations.keys():
                yield key, attack, name


def _statuses(a: Folder, b: Folder) -> list[Status]:
    return [Status(key, a[key].train["status"], b[key].train["status"]) for key in _shared(a, b)]


def _are_same(first: RunRecords, second: RunRecords) -> bool:
    """Whether two runs have the same weights, and the same verdicts under every attack that both had."""
    shared = first.verdicts.keys() & second.verdicts.keys()
    same = all(np.array_equal(first.verdicts[attack], second.verdicts[attack]) for attack in shared)
    return same and first.train["weights_sha256"] == second.train["weights_sha256"]


def _protocol(a: Folder, b: Folder) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """What the shared runs were to be, and what attacks they were put under, on both sides."""
    for key in _shared(a, b):
        first, second = (completed_spec(side[key].train["spec"]) for side in (a, b))
        yield key.variant, first, second
        for attack in (name for name in a[key].evaluations if name in b[key].evaluations):
            first, second = (completed_settings(side[key].evaluations[attack]["settings"]) for side in (a, b))
            yield attack, first, second


def _origins(a: Folder, b: Folder) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """What the shared runs were trained and evaluated with, on both sides."""
    for key in _shared(a, b):
        yield "training", _origin(a[key].train), _origin(b[key].train)
        for attack in (name for name in a[key].evaluations if name in b[key].evaluations):
            yield "evaluation", _origin(a[key].evaluations[attack]), _origin(b[key].evaluations[attack])


def _origin(content: Record) -> dict[str, Any]:
    provenance = content["provenance"]
    sources = {f"{name} source": sha256[:12] for name, sha256 in provenance["sources"].items()}
    hardware = provenance["hardware"]
    own = {"hardware": hardware["label"], "threads": hardware["threads"], "precision": provenance["precision"]}
    return own | {"python": provenance["python"]} | provenance["packages"] | sources


def _named(parts: Iterable[tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> list[Named]:
    """What two sides say differently, each pair of values once."""
    found: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
    for what, *sides in parts:
        first, second = (dict(leaves(side)) for side in sides)
        for name in dict.fromkeys([*first, *second]):
            values = first.get(name), second.get(name)
            if values[0] != values[1] and values not in found.setdefault((what, name), []):
                found[what, name].append(values)
    return [Named(*name, values) for name, values in sorted(found.items(), key=lambda each: each[0]) if values]
