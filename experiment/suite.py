"""Suites: one YAML file becomes the list of runs, every number resolved and every name checked before work starts."""

import copy
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiment import models, schema, sources
from experiment.data import DATASETS, load_split
from experiment.download import verify_raw
from experiment.errors import UserError
from experiment.quantity import quantity

ROOT = Path(__file__).resolve().parent.parent
ATTACK = re.compile(r"clean|fgsm|autoattack|(pgd|margin)-[1-9][0-9]*")


@dataclass(frozen=True)
class Run:
    """One training run: a data set, a variant and a seed of a suite. `spec` is everything that defines it."""

    dataset: str
    variant: str
    seed: int
    spec: dict

    @property
    def folder(self) -> str:
        """Where the run's files lie inside the suite's results."""
        return f"{self.dataset}/{self.variant}/seed{self.seed}"


@dataclass(frozen=True)
class Suite:
    """A validated suite. `resolved` has every default filled in and every quantity as a float."""

    resolved: dict

    @classmethod
    def load(cls, source: str | Path) -> "Suite":
        """Read a YAML file, or standard input when `source` is "-". Raises UserError."""
        try:
            text = sys.stdin.read() if str(source) == "-" else Path(source).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{source}: not readable ({error}); give a suite's YAML file") from None
        return cls.from_mapping(schema.read_yaml(text, str(source)))

    @classmethod
    def from_mapping(cls, content: Mapping) -> "Suite":
        """Validate and resolve. Raises UserError in one sentence that names the key."""
        return cls(_resolve(content))

    @property
    def name(self) -> str:
        return self.resolved["suite"]

    @property
    def datasets(self) -> list[str]:
        return self.resolved["datasets"]

    @property
    def attacks(self) -> list[str]:
        return [attack["name"] for attack in self.resolved["evaluation"]["attacks"]]

    @property
    def methods(self) -> list[str]:
        return sorted({variant["method"] for variant in self.resolved["variants"]})

    def runs(self) -> Iterator[Run]:
        """Every run: data sets, then seeds, then variants, so that a cut-off suite holds whole comparisons."""
        for dataset in self.datasets:
            for seed in self.resolved["seeds"]:
                for variant in self.resolved["variants"]:
                    yield self._run(dataset, variant, seed)

    def data_file(self, dataset: str, split: str) -> Path:
        """The prepared file of a split, "train" or "test"."""
        return Path(self.resolved["data_dir"]) / "prepared" / dataset / f"{split}.safetensors"

    def check_files(self) -> None:
        """Raise UserError if a data file that is there is damaged; what is not there is made or downloaded later."""
        for dataset in self.datasets:
            prepared = [self.data_file(dataset, split) for split in ("train", "test")]
            for path in filter(Path.exists, prepared):
                load_split(path)
            if not all(map(Path.exists, prepared)):
                verify_raw(dataset, self.resolved["data_dir"])

    def method_files(self, label: str) -> list[str]:
        """What a variant's method is made of, from the project's root; its defaults are part of the run's spec."""
        for variant in self.resolved["variants"]:
            if variant["label"] == label:
                files = sources.of_method(ROOT, variant["method"])
                return [str(path.relative_to(ROOT)) for path in files if path.name != "defaults.yaml"]
        raise UserError(f"suite {self.name} has no variant {label!r}")

    def run(self, folder: str) -> Run:
        """The run whose files lie in `folder`, such as "digits/pgd-7/seed0"."""
        for run in self.runs():
            if run.folder == folder:
                return run
        raise UserError(f"suite {self.name} has no run {folder!r}; a run is <dataset>/<variant>/seed<k>")

    def attack(self, name: str) -> dict:
        """Everything that defines an attack: its own settings, the threat model and the test images."""
        for attack in self.resolved["evaluation"]["attacks"]:
            if attack["name"] == name:
                caps = [cap for cap in (attack["images"], self.resolved["evaluation"]["max_test_images"]) if cap]
                return {**attack, "images": min(caps, default=None), "threat": self.resolved["threat"]}
        raise UserError(f"suite {self.name} has no attack {name!r}; it has {', '.join(self.attacks)}")

    def _run(self, dataset: str, variant: Mapping, seed: int) -> Run:
        spec = {
            "suite": self.name,
            "dataset": dataset,
            "variant": variant["label"],
            "seed": seed,
            "method": variant["method"],
            "steps": variant["steps"],
            "options": variant["options"],
            "network": self.resolved["network"],
            "threat": self.resolved["threat"],
            "training": {**self.resolved["training"], **variant["training"]},
        }
        return Run(dataset, variant["label"], seed, spec)


def _resolve(content: Mapping) -> dict:
    suite = copy.deepcopy(content) if isinstance(content, Mapping) else content
    if isinstance(suite, dict) and isinstance(suite.get("evaluation"), dict):
        attacks = suite["evaluation"].get("attacks")
        if isinstance(attacks, list):
            suite["evaluation"]["attacks"] = [{"name": a} if isinstance(a, str) else a for a in attacks]
    schema.validate(suite, schema.suite(), "")
    schema.fill_defaults(suite, schema.suite())
    _check_names(suite)
    threat = suite["threat"]
    threat["eps"] = eps = quantity(threat["eps"], "threat.eps")
    if not 0 < eps <= 1:
        raise UserError(f"threat.eps is {eps:g}; it is in pixel units and must lie in (0, 1], such as 8/255")
    for attack in suite["evaluation"]["attacks"]:
        attack["step_size"] = _positive(attack["step_size"], f"attack {attack['name']}: step_size", eps)
    _resolve_training(suite["training"], "training", suite["datasets"])
    for variant in suite["variants"]:
        _resolve_variant(variant, suite, eps)
    return suite


def _check_names(suite: dict) -> None:
    known_datasets, known_networks = sorted(DATASETS), sorted(models.names())
    _unique(suite["datasets"], "datasets")
    _unique(suite["seeds"], "seeds")
    _unique([variant["label"] for variant in suite["variants"]], "variants: label")
    _unique([attack["name"] for attack in suite["evaluation"]["attacks"]], "evaluation.attacks: name")
    for name in [*suite["datasets"], *suite["mirrors"]]:
        if name not in known_datasets:
            raise UserError(f"data set {name!r} is not known; the data sets are {', '.join(known_datasets)}")
    if suite["network"]["name"] not in known_networks:
        raise UserError(
            f"network {suite['network']['name']!r} is not known; the networks are {', '.join(known_networks)}"
        )
    if suite["network"]["activation"] not in models.ACTIVATIONS:
        known = ", ".join(models.ACTIVATIONS)
        raise UserError(f"activation {suite['network']['activation']!r} is not known; the activations are {known}")
    for dataset in suite["datasets"]:
        models.check_shape(suite["network"]["name"], DATASETS[dataset].shape)
    for attack in suite["evaluation"]["attacks"]:
        if not ATTACK.fullmatch(attack["name"]):
            raise UserError(
                f"attack {attack['name']!r} is not known; the attacks are clean, fgsm, pgd-K, margin-K and autoattack"
            )
    labels = {variant["label"]: variant for variant in suite["variants"]}
    for variant in suite["variants"]:
        base = variant.get("base")
        if base is not None and (base not in labels or base == variant["label"]):
            raise UserError(f"variant {variant['label']}: base is {base!r}; it must be the label of another variant")


def _unique(values: list, where: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{where} has {value!r} twice; each may appear once")


def _positive(value, where: str, eps: float | None = None) -> float:
    number = quantity(value, where, eps)
    if number <= 0:
        raise UserError(f"{where} is {number:g}; it must be above 0")
    return number


def _resolve_training(training: dict, where: str, datasets: list[str]) -> None:
    training["lr"] = _positive(training["lr"], f"{where}.lr")
    for key in ("momentum", "weight_decay"):
        training[key] = quantity(training[key], f"{where}.{key}")
        if training[key] < 0 or (key == "momentum" and training[key] >= 1):
            raise UserError(
                f"{where}.{key} is {training[key]:g}; it must not be negative, and momentum must be below 1"
            )
    schedule = training["schedule"]
    schedule["factor"] = _positive(schedule["factor"], f"{where}.schedule.factor")
    if schedule["peak_momentum"] is not None:
        lowest = schedule["peak_momentum"] = quantity(schedule["peak_momentum"], f"{where}.schedule.peak_momentum")
        if schedule["name"] != "cyclic" or not 0 <= lowest < training["momentum"]:
            raise UserError(
                f"{where}.schedule.peak_momentum is {lowest:g}; it is for a schedule named cyclic, must not be "
                f"negative, and must be below momentum, {training['momentum']:g}"
            )
    for dataset in datasets:
        available = DATASETS[dataset].train_images
        images = training["max_train_images"] or available - training["validation_images"]
        if images < 1 or images + training["validation_images"] > available:
            raise UserError(
                f"{where}: {training['validation_images']} validation_images and {max(images, 1)} training images "
                f"do not fit into the {available} of {dataset}; ask for fewer"
            )
        minibatches = training["epochs"] * -(-images // training["batch_size"])
        positions = [round(milestone * minibatches) for milestone in schedule["milestones"]]
        if schedule["name"] == "multistep" and not all(0 < position < minibatches for position in positions):
            raise UserError(
                f"{where}.schedule.milestones {schedule['milestones']} has one that never fires in the "
                f"{minibatches} minibatches of a run on {dataset}; train longer or move it"
            )


def _resolve_variant(variant: dict, suite: dict, eps: float) -> None:
    label, method = variant["label"], variant["method"]
    folder = ROOT / "methods" / method
    if not (folder / "method.py").is_file():
        known = sorted(path.parent.name for path in folder.parent.glob("*/method.py"))
        raise UserError(f"variant {label}: method {method!r} is not known; the methods are {', '.join(known)}")
    defaults = method_defaults(method)
    rule = variant["steps"]["rule"]
    steps = {**defaults["steps"].get(rule, {}), **variant["steps"]}
    schema.validate(steps, schema.suite()["$defs"]["steps"][rule], f"variant {label}: steps ({rule})")
    schema.fill_defaults(steps, schema.suite()["$defs"]["steps"][rule])
    for key in ("step_size", "total"):
        if key in steps:
            steps[key] = _positive(steps[key], f"variant {label}: steps.{key}", eps)
    if "gamma" in steps:
        steps["gamma"] = _positive(steps["gamma"], f"variant {label}: steps.gamma")
    if steps.get("first", 0) > steps.get("most", steps.get("first", 0)):
        raise UserError(f"variant {label}: steps.first is {steps['first']}, above steps.most, {steps['most']}")
    for key in variant["options"]:
        if key not in defaults["options"]:
            known = ", ".join(sorted(defaults["options"])) or "none"
            raise UserError(f"variant {label}: method {method} has no option {key!r}; its options are: {known}")
    for key, value in variant["options"].items():
        kind = type(defaults["options"][key])
        if kind is float and type(value) is int:
            variant["options"][key] = float(value)
        elif type(value) is not kind:
            raise UserError(
                f"variant {label}: options.{key} is {value!r}; it must be of the kind of {defaults['options'][key]!r}"
            )
    variant["steps"] = steps
    variant["options"] = {**defaults["options"], **variant["options"]}
    overridden = {**copy.deepcopy(suite["training"]), **variant["training"]}
    if isinstance(variant["training"].get("schedule"), dict):  # one key of it leaves the suite's others as they are
        overridden["schedule"] = {**suite["training"]["schedule"], **variant["training"]["schedule"]}
    schema.validate(overridden, schema.suite()["$defs"]["training"], f"variant {label}: training")
    schema.fill_defaults(overridden, schema.suite()["$defs"]["training"])
    _resolve_training(overridden, f"variant {label}: training", suite["datasets"])
    variant["training"] = {key: overridden[key] for key in variant["training"]}


def method_defaults(method: str) -> dict:
    """A method's defaults.yaml: `steps` (parameters by steps rule) and `options`. Raises UserError."""
    path = ROOT / "methods" / method / "defaults.yaml"
    try:
        content = schema.read_yaml(path.read_text(), str(path.relative_to(ROOT))) or {}
    except OSError as error:
        raise UserError(f"{path.relative_to(ROOT)}: not readable ({error.strerror})") from None
    if not isinstance(content, dict) or set(content) - {"steps", "options"}:
        raise UserError(f"{path.relative_to(ROOT)}: it must have the keys `steps` and `options` and no other")
    return {"steps": content.get("steps") or {}, "options": content.get("options") or {}}
