"""Sentences that say how the numbers of a suite came about: for captions, notes and titles."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.results import RUN, suspects
from analysis.timing import disturbed
from experiment import plugins
from experiment.attacks import of_settings
from experiment.keys import Variant
from experiment.suite import Suite

NOTHING = "–"
MARK = "†"  # beside seconds of which all were disturbed
SPREAD = f"Mean ± sample standard deviation over seeds, {NOTHING} where there is none."
CHECKPOINTS = {"best": "the epoch of best PGD accuracy on the validation split", "last": "the last epoch"}
OWN_UNITS = "Compute is in ordinary epochs of each variant's own network."
OPEN_THREADS = "The suite leaves the number of CPU threads open; trained with another, weights differ."
PUBLISHED_MPLUS = {"deat", "mart", "pgd", "trades"}  # methods under which M+ has been published


def is_mplus(variant: Variant) -> bool:
    """Whether the variant's steps follow M+, in any of its published forms."""
    return variant.steps.rule.startswith("mplus")


def changed(suite: Suite) -> str:
    """What is compared with its base: "M+", or "the variant" in a suite where bases are of other variants too."""
    return "M+" if all(is_mplus(variant) for variant in suite.variants if variant.base) else "the variant"


def spelled(attack: str) -> str:
    """The attack's name as a text spells it."""
    return {"autoattack": "AutoAttack"}.get(attack, attack)


def format_eps(eps: float) -> str:
    """ "8/255" where eps is a whole number of 255ths, else the number."""
    pixels = round(eps * 255)
    return f"{pixels}/255" if math.isclose(eps * 255, pixels, rel_tol=1e-6) else f"{eps:g}"


def format_length(length: float, eps: float) -> str:
    """ "0.25 eps" where the length is a round multiple of the radius, else as `format_eps` has it."""
    multiple = length / eps
    return f"{multiple:.4g} eps" if math.isclose(multiple, round(multiple, 2), rel_tol=1e-9) else format_eps(length)


def describe_protocol(suite: Suite, runs: pd.DataFrame, datasets: Sequence[str] = ()) -> str:
    """Data, network, threat model, training, seeds, hardware and arithmetic, and what is this suite's own.

    datasets: those that it is said of; without them all of the suite's.
    """
    training, threat = suite.training, suite.threat
    norm = {"linf": "L-inf", "l2": "L2"}.get(threat.norm, threat.norm)
    seeds = suite.seeds
    overrides: dict[str, list[str]] = {}
    in_mode: dict[str, list[str]] = {"train": [], "eval": []}  # of batch norm while crafting
    for variant in suite.variants:
        own = {**variant.network, **variant.training}
        if training.crafting_batch_norm == "published":
            in_mode[own.pop("crafting_batch_norm")].append(variant.label)
        if own:
            overrides.setdefault(", ".join(_spoken(key, value) for key, value in own.items()), []).append(variant.label)
    departures = [
        f"{', '.join(labels)} {'has' if len(labels) == 1 else 'have'} {what}" for what, labels in overrides.items()
    ]
    published = [f"in evaluation mode in {', '.join(in_mode['eval'])}"] * bool(in_mode["eval"])
    published += [f"in training mode in {'the others' if published else 'all'}"] * bool(in_mode["train"])
    mplus = dict.fromkeys(v.method for v in suite.variants if is_mplus(v))
    own = [method for method in mplus if method not in PUBLISHED_MPLUS]
    trained = sorted(set((runs["hardware"] + ", in " + runs["precision"]).dropna()))
    sentences = [
        f"Data: {', '.join(_with_augmentation(suite, dataset) for dataset in datasets or suite.datasets)}.",
        f"Network: {describe_network(suite)}.",
        f"{norm} ball of eps = {format_eps(threat.eps)}.",
        f"{training.epochs} epochs, batches of {training.batch_size}, evaluated at {CHECKPOINTS[training.checkpoint]}.",
        *([f"Batch norm while crafting as published: {'; '.join(published)}."] if published else []),
        *([OWN_UNITS] if any(set(variant.network) - {"activation"} for variant in suite.variants) else []),
        *([f"Departures: {'; '.join(departures)}."] if departures else []),
        f"{len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))}).",
        f"Trained on {' and '.join(trained)}.",
        *([OPEN_THREADS] if suite.threads is None and any(" thread" in label for label in trained) else []),
        *([f"M+ under {', '.join(own)} has no published definition; it is this suite's own."] if own else []),
    ]
    return " ".join(sentences)


def _spoken(key: str, value: Any) -> str:
    """ "lr 0.1", "schedule (name cyclic, peak 0.3)", "weight_averaging none"."""
    if isinstance(value, dict):
        return f"{key} ({', '.join(_spoken(part, of_it) for part, of_it in value.items())})"
    return f"{key} {'none' if value is None else value}"


def describe_network(suite: Suite) -> str:
    """The network, its activation, and where it departs from the architecture of that name."""
    network = suite.resolved["network"]
    departures = {"activation": network["activation"]} | plugins.changed("network", network)
    own = [value if key == "activation" else f"{key} {value}" for key, value in departures.items()]
    return f"{network['name']} ({', '.join(own)})"


def _with_augmentation(suite: Suite, dataset: str) -> str:
    how = {"none": "not augmented", "crop": "random crops", "crop_flip": "random crops and flips"}
    return f"{dataset} ({how[suite.dataset(dataset).augmentation]})"


def describe_attacks(suite: Suite, runs: pd.DataFrame) -> str:
    """How many test images each attack had, its steps and restarts, and what it is; ends in a full stop."""
    used = runs[runs["evaluation_status"] == "ok"]
    counts = {}
    for dataset, rows in used.groupby("dataset", sort=False):
        images = rows.groupby("attack", sort=False)["images"].unique()
        counts[dataset] = ", ".join(f"{attack} {' or '.join(map(str, sorted(n)))}" for attack, n in images.items())
    if len(set(counts.values())) == 1:
        counts = {"": next(iter(counts.values()))}
    shown = "; ".join(f"{dataset} {text}".strip() for dataset, text in counts.items())
    arithmetic = f", in {' and '.join(sorted(set(used['evaluation_precision'])))}" if shown else ""
    sentences = [f"Test images: {shown or 'none'}{arithmetic}."]
    attacks = suite.resolved["evaluation"]["attacks"]
    if particulars := _particulars(attacks, suite.threat.eps):
        sentences.append(f"{particulars}.")
    for attack in attacks:
        if explained := _attack(attack, suite.threat.eps).explained:
            sentences.append(f"{attack['label']}: {explained}.")
    return " ".join(sentences)


def _attack(attack: dict, eps: float) -> Any:
    """The attack of a suite's entry. eps: of the suite, where the attack has none of its own."""
    return of_settings({**attack, "threat": {"eps": attack["eps"] or eps}})


def _particulars(attacks: list[dict], eps: float) -> str:
    """ "pgd-20, margin-20: steps of 0.25 eps, 1 restart; far (pgd-50): eps = 16/255, steps of 2/255, 5 restarts"."""
    alike: dict[str, list[str]] = {}
    for attack in attacks:
        label, name = attack["label"], attack["name"]
        said = [] if attack["eps"] is None else [f"eps = {format_eps(attack['eps'])}"]
        if "step_size" in attack:
            restarts = attack["restarts"]
            size = format_length(attack["step_size"], attack["eps"] or eps)
            said += [f"steps of {size}", f"{restarts} restart{'s' * (restarts > 1)}"]
        if said or label != name:
            alike.setdefault(", ".join(said), []).append(label if label == name else f"{label} ({name})")
    return "; ".join(f"{', '.join(names)}: {said}" if said else ", ".join(names) for said, names in alike.items())


def describe_runs(runs: pd.DataFrame, status: str) -> str:
    """The runs of that status and the epoch it was seen: "fast seed 0 (epoch 9), seed 2 (epoch 18)"; "" for none."""
    several = runs["dataset"].nunique() > 1
    found = runs[runs["status"] == status].drop_duplicates(RUN)
    variants = []
    for (dataset, variant), rows in found.groupby(["dataset", "variant"], sort=False):
        seeds = [
            f"seed {run.seed}" + ("" if pd.isna(run.status_epoch) else f" (epoch {run.status_epoch})")
            for run in rows.itertuples()
        ]
        variants.append(f"{f'{dataset} ' if several else ''}{variant} {', '.join(seeds)}")
    return "; ".join(variants)


def describe_suspects(runs: pd.DataFrame) -> list[str]:
    """A sentence for each run that attacks gave reason to doubt: "Suspect: fast seed 0 (...)."."""
    return [
        f"Suspect: {run.variant} seed {run.seed} ({run.dataset}): {run.suspect}." for run in suspects(runs).itertuples()
    ]


def left_out(runs: pd.DataFrame) -> list[str]:
    """A sentence on what becomes of the seconds of disturbed runs; none where there is none."""
    count = len(disturbed(runs))
    said = (
        f"Timed beside other work on the machine: {count} of {len(runs.drop_duplicates(RUN))} runs; their seconds are "
        f"in a mean only where all of its runs were ({MARK}), and no speed-up is claimed from them."
    )
    return [said] if count else []


def describe_teachers(runs: pd.DataFrame) -> list[str]:
    """A sentence for each variant that learnt from another: how much of its mean costs is that one's."""
    taught = runs[runs["teacher_compute"].notna()].drop_duplicates(RUN)
    return [
        f"Costs of {variant} ({dataset}) hold those of the variant that it learnt from: on average "
        f"{rows['teacher_compute'].mean():.4g} of {rows['compute'].mean():.4g} ordinary epochs of compute and "
        f"{rows['teacher_seconds'].mean():.4g} of {rows['seconds'].mean():.4g} s."
        for (dataset, variant), rows in taught.groupby(["dataset", "variant"], sort=False)
    ]


def describe_beside(runs: pd.DataFrame) -> list[str]:
    """How busy the machine's other cores were while runs were timed; nothing where they were not, or none knows."""
    most = runs["cores_beside"].max()
    return [f"Up to {most:.1f} of the machine's other cores were busy while a run was timed."] if most >= 0.05 else []


def describe_disturbed(runs: pd.DataFrame) -> list[str]:
    """The same, and a sentence for each such run: "Disturbed: fast seed 0 (...)."."""
    found = disturbed(runs).itertuples()
    return left_out(runs) + [
        f"Disturbed: {run.variant} seed {run.seed} ({run.dataset}): {run.disturbed}." for run in found
    ]


def describe_sources(runs: pd.DataFrame) -> list[str]:
    """A sentence for each thing that records should share and do not: sources, packages, hardware of training."""
    trained, evaluated = runs.drop_duplicates(RUN), runs[runs["evaluation_engine_sha256"].notna()]
    engines = {"Trained": trained["engine_sha256"], "Attacked": evaluated["evaluation_engine_sha256"]}
    packages = pd.concat([trained["packages"], evaluated["evaluation_packages"]])
    sentences = [
        f"{made} by different versions of this suite's own source: {_counted(found.str[:12])}."
        for made, found in engines.items()
        if found.nunique() > 1
    ]
    for method, rows in trained.groupby("method", sort=False):
        if rows["method_sha256"].nunique() > 1:
            sentences.append(
                f"Made by different versions of the method {method}: {_counted(rows['method_sha256'].str[:12])}."
            )
    for column, split in (("data_sha256", "training"), ("evaluation_data_sha256", "test")):
        for dataset, rows in runs.groupby("dataset", sort=False):
            found = rows.drop_duplicates(RUN)[column] if column == "data_sha256" else rows[column].dropna()
            if found.nunique() > 1:
                sentences.append(f"The {split} images of {dataset} were not the same: {_counted(found.str[:12])}.")
    if packages.nunique() > 1:
        versions = [set(text.split(", ")) for text in packages]
        shared = set.intersection(*versions)
        different = pd.Series([", ".join(sorted(found - shared)) for found in versions])
        sentences.append(f"Made with different package versions: {_counted(different)}.")
    if trained["hardware"].nunique() > 1:
        kinds = trained.groupby(["dataset", "variant"], sort=False)["hardware"].nunique()
        mixed = dict.fromkeys(variant for (_, variant), count in kinds.items() if count > 1)
        who = f"runs of {', '.join(mixed)}" if mixed else "variants"
        sentences.append(
            f"Weights depend on hardware and threads, and {who} were trained on different ones: "
            f"{_counted(trained['hardware'])}."
        )
    return sentences


def _counted(values: pd.Series) -> str:
    """ "a (12 records), b (1 record)"."""
    return "; ".join(f"{value} ({n} record{'s' * (n > 1)})" for value, n in values.value_counts(sort=False).items())
