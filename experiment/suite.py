"""Suites: one YAML file becomes the list of runs, every number resolved and every name checked before work starts."""

import copy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiment import data, models, schema
from experiment.errors import UserError, shown
from experiment.quantity import length, positive, quantity

if TYPE_CHECKING:  # the Snakefile imports this module at every start, and torch would cost it seconds
    from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
RESERVED = ["reference"]  # folders of results/ that are no suite's


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
        if str(source) == "-":
            return cls.from_mapping(schema.parse(sys.stdin.buffer.read(), "standard input"))
        return cls.from_mapping(schema.read(source), str(source))

    @classmethod
    def from_mapping(cls, content: Mapping, file: str = "") -> "Suite":
        """Validate and resolve. Raises UserError in one sentence that names the key, and the file it is from."""
        try:
            return cls(_resolve(content))
        except UserError as error:
            raise UserError(f"{file}: {error}" if file else str(error)) from None

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

    @property
    def data_dir(self) -> Path:
        """The folder of the data sets' files; a leading ~ is the user's home."""
        return Path(self.resolved["data_dir"]).expanduser()

    def dataset(self, name: str) -> data.Dataset:
        """What is known of one of its data sets; of images of a user's own all of it once they are prepared."""
        return data.dataset(name, self.data_dir)

    def data_file(self, dataset: str, split: str) -> Path:
        """The prepared file of a split, "train" or "test"."""
        return data.prepared_file(dataset, split, self.data_dir)

    def load_split(self, dataset: str, split: str) -> tuple["Tensor", "Tensor"]:
        """Images and labels of a split, as `experiment.data.load_split` gives them."""
        return data.load_split(dataset, split, self.data_dir)

    def check_files(self) -> None:
        """Raise UserError if a data file that is there is damaged; what is not there is made or downloaded later."""
        for dataset in self.datasets:
            data.check(dataset, self.data_dir)

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
    schema.check_plain(content, "")
    suite = copy.deepcopy(content) if isinstance(content, Mapping) else content
    if isinstance(suite, dict) and isinstance(suite.get("evaluation"), dict):
        attacks = suite["evaluation"].get("attacks")
        if isinstance(attacks, list):
            suite["evaluation"]["attacks"] = [{"name": a} if isinstance(a, str) else a for a in attacks]
    schema.validate(suite, schema.suite(), "")
    schema.fill_defaults(suite, schema.suite())
    _check_names(suite)
    threat = suite["threat"]
    threat["eps"] = eps = length(threat["eps"], "threat.eps")
    for attack in suite["evaluation"]["attacks"]:
        _resolve_attack(attack, eps)
    _resolve_training(suite["training"], "training", suite["datasets"])
    for variant in suite["variants"]:
        _resolve_variant(variant, suite, eps)
    return suite


def _check_names(suite: dict) -> None:
    if suite["suite"] in RESERVED:
        raise UserError(f"suite is {suite['suite']!r}, as the folder of published results is; name it otherwise")
    try:
        Path(suite["data_dir"]).expanduser()
    except RuntimeError:
        raise UserError(f"data_dir is {shown(suite['data_dir'])}; the home that it begins with is not known") from None
    known_datasets, known_networks = data.names(), sorted(models.names())
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
        models.check_shape(suite["network"]["name"], data.dataset(dataset).shape)
    labels = {variant["label"]: variant for variant in suite["variants"]}
    for variant in suite["variants"]:
        base = variant.get("base")
        if base is not None and (base not in labels or base == variant["label"]):
            raise UserError(f"variant {variant['label']}: base is {base!r}; it must be the label of another variant")


def _unique(values: list, where: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{where} has {value!r} twice; each may appear once")


def attack_schema(name: str) -> Mapping:
    """The schema of the attacks of that kind: the keys that they heed. Raises UserError."""
    kinds = schema.suite()["$defs"]["attacks"]
    if (kind := name.partition("-")[0]) not in kinds:
        raise UserError(f"attack {shown(name)} is not known; {schema.suite()['$defs']['attack_name']['expected']}")
    return kinds[kind]


def _resolve_attack(attack: dict, eps: float) -> None:
    where = f"attack {shown(attack['name'])[1:-1]}"
    schema.validate(attack, attack_schema(attack["name"]), where)
    schema.fill_defaults(attack, attack_schema(attack["name"]))
    if "step_size" in attack:
        attack["step_size"] = length(attack["step_size"], f"{where}: step_size", eps)


def _resolve_training(training: dict, where: str, datasets: list[str]) -> None:
    training["lr"] = positive(training["lr"], f"{where}.lr")
    for key in ("momentum", "weight_decay"):
        training[key] = quantity(training[key], f"{where}.{key}")
        if training[key] < 0 or (key == "momentum" and training[key] >= 1):
            raise UserError(
                f"{where}.{key} is {training[key]:g}; it must not be negative, and momentum must be below 1"
            )
    schedule = training["schedule"]
    schedule["factor"] = positive(schedule["factor"], f"{where}.schedule.factor")
    if schedule["peak_momentum"] is not None:
        lowest = schedule["peak_momentum"] = quantity(schedule["peak_momentum"], f"{where}.schedule.peak_momentum")
        if schedule["name"] != "cyclic" or not 0 <= lowest < training["momentum"]:
            raise UserError(
                f"{where}.schedule.peak_momentum is {lowest:g}; it is for a schedule named cyclic, must not be "
                f"negative, and must be below momentum, {training['momentum']:g}"
            )
    for dataset in datasets:
        available = data.dataset(dataset).train_images
        images = training["max_train_images"] or available - training["validation_images"]
        if images < 1 or images + training["validation_images"] > available:
            raise UserError(
                f"{where}: {training['validation_images']} validation_images and {max(images, 1)} training images "
                f"do not fit into the {available} of {dataset}; ask for fewer"
            )
        if images % training["batch_size"] == 1:
            raise UserError(
                f"{where}.batch_size is {training['batch_size']}, which leaves a minibatch of one of the {images} "
                f"training images of {dataset}, too few for batch norm; take another batch_size or max_train_images"
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
    _resolve_steps(steps, f"variant {label}: steps", eps)
    for key in variant["options"]:
        if key not in defaults["options"]:
            known = ", ".join(sorted(defaults["options"])) or "none"
            raise UserError(f"variant {label}: method {method} has no option {key!r}; its options are: {known}")
    for key, value in variant["options"].items():
        kind, where = type(defaults["options"][key]), f"variant {label}: options.{key}"
        if kind is float and type(value) is not bool:
            variant["options"][key] = quantity(value, where)
        elif type(value) is not kind:
            raise UserError(f"{where} is {shown(value)}; it must be of the kind of {defaults['options'][key]!r}")
    variant["steps"] = steps
    variant["options"] = {**defaults["options"], **variant["options"]}
    overridden = {**copy.deepcopy(suite["training"]), **variant["training"]}
    if isinstance(variant["training"].get("schedule"), dict):  # one key of it leaves the suite's others as they are
        overridden["schedule"] = {**suite["training"]["schedule"], **variant["training"]["schedule"]}
    schema.validate(overridden, schema.suite()["$defs"]["training"], f"variant {label}: training")
    schema.fill_defaults(overridden, schema.suite()["$defs"]["training"])
    _resolve_training(overridden, f"variant {label}: training", suite["datasets"])
    variant["training"] = {key: overridden[key] for key in variant["training"]}


def _resolve_steps(steps: dict, where: str, eps: float) -> None:
    if "step_size" in steps:
        steps["step_size"] = length(steps["step_size"], f"{where}.step_size", eps)
    if "total" in steps:
        steps["total"] = quantity(steps["total"], f"{where}.total", eps)
        length(steps["total"] / steps["most"], f"{where}.total / most")
    if "gamma" in steps:
        steps["gamma"] = positive(steps["gamma"], f"{where}.gamma")
    if steps.get("first", 0) > steps.get("most", steps.get("first", 0)):
        raise UserError(f"{where}.first is {steps['first']}, above steps.most, {steps['most']}")


def method_defaults(method: str) -> dict:
    """A method's defaults.yaml: `steps` (parameters by steps rule) and `options`. Raises UserError."""
    path = ROOT / "methods" / method / "defaults.yaml"
    content, where = schema.read(path) or {}, str(path.relative_to(ROOT))
    try:
        schema.check_plain(content, "")
        schema.validate(content, schema.suite()["$defs"]["defaults"], "")
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return {"steps": content.get("steps") or {}, "options": content.get("options") or {}}
